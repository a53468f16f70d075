"""Stage kinds of the core, one file each: options, plan, run."""
