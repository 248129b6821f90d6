"""``python -m anamorph``."""

from anamorph.cli.main import main

main()
