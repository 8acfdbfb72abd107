"""python -m assets: the same as the command stemma."""

from assets.cli import main

main()
