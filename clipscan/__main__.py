"""`python -m clipscan` is the command."""

from clipscan.cli import main

main()
