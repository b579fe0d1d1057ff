"""One run of a hosted federation, as its host starts it: ``python -m koinon.server.operation.once FOLDER FILE``.

What it ends with goes to FILE: an error's code, or nothing where it ended well. A file that is not there afterwards
means that it was killed.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from koinon.config import write_atomically
from koinon.errors import KoinonError

__all__ = ["main"]


def main(folder: Path, said: Path) -> int:
    """Run once and write down how it ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what it has started is ended
    from koinon.server.launcher import run_hosted
    from koinon.server.membership.home import FederationHome

    try:
        run_hosted(FederationHome(folder))
    except KoinonError as error:
        sys.stderr.write(f"{error}\n")
        write_atomically(said, error.code)
        return error.exit_code
    write_atomically(said, "")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
