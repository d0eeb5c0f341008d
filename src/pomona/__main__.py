"""`python -m pomona`: the command line."""

from pomona.cli.main import main

main()
