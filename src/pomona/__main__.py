"""`python -m pomona`: the command line."""

from pomona.cli import main

main()
