"""What is installed here, on what machine, and what of it is known to go wrong: behind `langadapt doctor`.

`facts.collect` gathers what can be known without the heavy libraries. `libraries.try_all` then has each of them do one
small thing in a process of its own, so one that crashes or hangs is a finding and not the end of the doctor. The checks of
`checks` and `combinations` look at facts and at nothing else; `sections` puts facts into words.
"""
