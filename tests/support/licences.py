"""Licences that oblige who passes a distribution on, held against NOTICE: `python -m tests.support.licences`.

It looks at the Python that runs it and needs nothing but that, so `make licences` runs it with each environment.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from email.message import Message
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTICE = ROOT / "NOTICE"
IMAGE = "Installed with Pitboss and in its image"

_OBLIGING = re.compile(
    r"\b([AL]?GPL|MPL|EPL|EUPL|CDDL|SSPL)|(General|Mozilla|Eclipse|European Union) Public"
)
_ROW = re.compile(r"^  ((?:[\w.-]+, )*[\w.-]+) {2,}\S")
_TEXT_BEGINS = 100
"""Characters of the field License that may name it; the whole text names others."""


def normalise(name: str) -> str:
    """Return a distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def find_obliging() -> dict[str, str]:
    """Return the licence of each installed distribution that has such a one, by name."""
    found = {}
    for one in importlib.metadata.distributions():
        metadata: Message = one.metadata  # type: ignore[assignment]  # its stub hides the mapping
        if licence := next(filter(_OBLIGING.search, _licences(metadata)), None):
            found[normalise(str(metadata["Name"]))] = licence
    return found


def _licences(metadata: Message) -> Iterator[str]:
    yield str(metadata.get("License-Expression", ""))
    yield str(metadata.get("License", ""))[:_TEXT_BEGINS]
    for text in metadata.get_all("Classifier", []):
        if text.startswith("License ::"):
            yield text


def read_notice(lines: Iterable[str]) -> dict[str, set[str]]:
    """Return the names of each section of NOTICE, by its heading."""
    sections: dict[str, set[str]] = {}
    names: set[str] = set()
    for line in lines:
        if line.endswith(":") and not line.startswith(" "):
            names = sections[line[:-1]] = set()
        elif row := _ROW.match(line):
            names.update(map(normalise, row[1].split(", ")))
    return sections


def main() -> int:
    """Print what NOTICE lacks; return 1 if there is something."""
    listed = set().union(*read_notice(NOTICE.read_text().splitlines()).values())
    missing = {name: text for name, text in find_obliging().items() if name not in listed}
    for name, text in sorted(missing.items()):
        print(f"NOTICE does not name {name} ({text})")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
