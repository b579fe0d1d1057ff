"""``python -m koinon.cli`` is ``koinon``."""

from koinon.cli.main import main

main()
