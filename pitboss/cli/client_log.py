"""The log of a command's libraries: their warnings go to a file and not between its output.

Kafka's client logs what it tries again by itself, such as a partition whose leader has just moved.
What a command cannot do ends it with an error of its own.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from pitboss.embedded.files import LOG_BYTES_MAX

LIBRARIES: Final = ("aiokafka", "faust", "mode")
CLIENT_LOG: Final = Path("log") / "client.log"
"""Below the home folder."""


class ClientLog(logging.Handler):
    """Handler that appends to a file, which it makes at the first record; it never fails.

    A file of more than `LOG_BYTES_MAX` is begun again. Where nothing can be written, as in a
    container whose home is read-only, records are dropped.
    """

    def __init__(self, file: Path) -> None:
        """Keep the file's name; nothing is opened yet."""
        super().__init__()
        self._file = file
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Append one line."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            is_full = self._file.exists() and self._file.stat().st_size > LOG_BYTES_MAX
            with self._file.open("w" if is_full else "a", encoding="utf-8") as log:
                log.write(f"{self.format(record)}\n")
        except OSError:
            return


def write_library_logs_to(file: Path) -> None:
    """Send the libraries' log records of this process to the file, and not to stderr."""
    log = ClientLog(file)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        for handler in [one for one in logger.handlers if isinstance(one, ClientLog)]:
            logger.removeHandler(handler)
        # A logger with a handler of its own does not fall back on stderr.
        logger.addHandler(log)
