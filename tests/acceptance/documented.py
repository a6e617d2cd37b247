"""Contents of the documents: fenced blocks, links, and names in backticks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def documents() -> list[Path]:
    """Return every document of the project."""
    own = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    return own + sorted((ROOT / "docs").rglob("*.md"))


def page(name: str) -> Path:
    """Return the one page below docs/ with this file name."""
    [found] = (ROOT / "docs").rglob(name)
    return found


def blocks(path: Path, language: str) -> list[str]:
    """Return the bodies of the fenced blocks of a language."""
    return [
        match["body"]
        for match in _FENCE.finditer(path.read_text())
        if match["language"] == language
    ]


def prose(path: Path) -> str:
    """Return the text outside fenced blocks."""
    return _FENCE.sub("", path.read_text())


def links(path: Path) -> list[str]:
    """Return the targets of all links."""
    return _LINK.findall(prose(path))


def names(path: Path) -> list[str]:
    """Return every text in backticks."""
    return _CODE.findall(prose(path))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, by GitHub's rule."""
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading)).strip().lower().replace(" ", "-")
        for heading in _HEADING.findall(prose(path))
    }


def session(path: Path, command: str) -> str:
    """Return the output below a command that begins with `command` in a console block."""
    for body in blocks(path, "console"):
        first, _, output = body.partition("\n")
        if first.startswith(f"$ {command}"):
            return output
    message = f"{path} shows no session of {command!r}"
    raise AssertionError(message)


@dataclass(frozen=True)
class Shown:
    """A command that a console block shows, without its comment, and the output below it."""

    page: Path
    command: str
    output: str

    @property
    def words(self) -> list[str]:
        """The command's words, without variables that are set before it."""
        words = shlex.split(self.command)
        return list(dropwhile(_ASSIGNMENT.fullmatch, words))

    @property
    def variables(self) -> dict[str, str]:
        """The variables that are set before the command."""
        words = takewhile(_ASSIGNMENT.fullmatch, shlex.split(self.command))
        return dict(word.split("=", 1) for word in words)


def shown_commands(path: Path) -> list[Shown]:
    """Return the commands of a document's console blocks in their order."""
    found = []
    for body in blocks(path, "console"):
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            found.append(Shown(path, re.sub(r"\s+(# |> ).*$", "", line), output))
    return found


def table_rows(path: Path, heading: str) -> Iterator[list[str]]:
    """Yield the cells of every table row below a heading, up to the next heading."""
    text = path.read_text().partition(f"## {heading}\n")[2]
    assert text, f"{path} has no heading {heading!r}"
    for line in text.partition("\n## ")[0].splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]
