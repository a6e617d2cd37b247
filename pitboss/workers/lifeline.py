"""Running a module for as long as the process that started it lives, so that no orphan is left.

The child's standard input is a pipe of which only the parent has the other end, so its end of file
is the parent's end. (PR_SET_PDEATHSIG would follow the parent's *thread*, and only Linux has it.)
"""

from __future__ import annotations

import os
import runpy
import sys
import threading

ORPHANED = 113
"""Exit code of a worker whose parent is gone; only the log of a container shows it."""


def main() -> None:
    """Run the module named by the first argument with the rest of them."""
    sys.argv.pop(0)
    threading.Thread(target=_die_with_parent, name="lifeline", daemon=True).start()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    # As abrupt as SIGKILL, which loses nothing by design; a drain could wait for servers that are
    # gone too.
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()
