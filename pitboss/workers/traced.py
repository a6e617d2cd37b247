"""A worker with an open tap: `python -m pitboss.workers.traced FILE ROLE` (`runtime.hop_tap`)."""

from __future__ import annotations

import sys
from pathlib import Path

from pitboss.workers.__main__ import main
from runtime.hop_tap import open_tap

if __name__ == "__main__":
    open_tap(Path(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
