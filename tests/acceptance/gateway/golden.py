"""Golden answers: what a provider gets, byte for byte, in one file a provider.

PITBOSS_WRITE_VECTORS=yes writes the files anew; every byte of them is to be read then.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

VECTORS = Path(__file__).parents[2] / "vectors" / "gateway"

_CLOCK = re.compile(rb'(?<= timestamp=")[^"]+(?=">)|(?<="updated_time":)1[0-9]{12}(?=},)')
"""Microgaming's answers have the time of the append, PG Soft's balance that of the receipt."""

Answer = tuple[int, str, bytes]


def check_golden(provider: str, answers: dict[str, Answer]) -> None:
    """Compare the answers with the file, all at once, or write it."""
    rows = {step: row_of(*answer) for step, answer in answers.items()}
    file = VECTORS / f"{provider}.json"
    if os.environ.get("PITBOSS_WRITE_VECTORS") == "yes":
        file.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    assert rows == json.loads(file.read_text())


def row_of(status: int, content_type: str, body: bytes) -> list[int | str]:
    body = _CLOCK.sub(b"CLOCK", body)
    if content_type.startswith("application/vnd."):
        return [status, content_type, body.hex()]
    return [status, content_type, body.decode()]
