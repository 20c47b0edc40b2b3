"""``python -m datacheck``."""

from datacheck.cli import main

main()
