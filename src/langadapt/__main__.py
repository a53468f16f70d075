"""`python -m langadapt`."""

from langadapt.cli import main

main()
