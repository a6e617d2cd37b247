"""The archiver's books in a file, for tests without a database; a line is written durably before it counts."""

from __future__ import annotations

import json
import os
from pathlib import Path

from replay.archive.manifest import FileSpan


class FileBooks:
    def __init__(self, file: Path) -> None:
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)

    def _lines(self) -> list[list]:
        if not self._file.exists():
            return []
        whole = self._file.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def positions(self) -> dict[tuple[str, int], int]:
        found: dict[tuple[str, int], int] = {}
        for word, topic, partition, _, end in self._lines():
            if word == "plan":
                found[topic, partition] = max(found.get((topic, partition), 0), end)
        return found

    def unfinished(self) -> list[FileSpan]:
        lines = self._lines()
        done = {tuple(rest) for word, *rest in lines if word == "finish"}
        return [
            FileSpan(*rest) for word, *rest in lines if word == "plan" and tuple(rest) not in done
        ]

    def plan(self, span: FileSpan) -> None:
        self._append("plan", span)

    def finish(self, span: FileSpan, records: int, sha256: str) -> None:
        self._append("finish", span)

    def _append(self, word: str, span: FileSpan) -> None:
        kept = self._file.read_bytes().rpartition(b"\n") if self._file.exists() else (b"", b"", b"")
        if kept[2]:  # a line that a kill has cut
            self._file.write_bytes(kept[0] + kept[1])
        line = [word, span.topic, span.partition, span.from_offset, span.to_offset]
        with self._file.open("ab") as opened:
            opened.write(json.dumps(line).encode() + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
