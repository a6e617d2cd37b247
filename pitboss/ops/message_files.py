"""Messages in files as raw records that were never appended: one file a body, headers beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from replay.explain import RawBody
from schemas.errors import UsageError, suggest
from schemas.topics import raw_topic
from streams.providers.registry import DIALECTS

HEADERS_SUFFIX: Final = ".headers.json"
_NAME_FORM: Final = "NN.<provider>.<ext>"


def read_bodies(paths: Iterable[Path], now_ms: int) -> list[RawBody]:
    """Read files, and folders' files in the order of their names, as bodies appended at `now_ms`.

    A name is `NN.<provider>.<ext>`; `NN.<provider>.<ext>.headers.json` beside it maps headers to
    texts. Hidden files are left out. Raises OSError for what cannot be read, and UsageError for a
    folder without bodies, another name, an unknown provider and unusable headers.
    """
    files = [file for path in paths for file in _files_of(path)]
    return [_read_body(file, offset, now_ms) for offset, file in enumerate(files)]


def _files_of(path: Path) -> list[Path]:
    """Return the bodies of a folder, or the file itself."""
    if not path.is_dir():
        if path.name.endswith(HEADERS_SUFFIX):
            raise UsageError(f"{path}: these are headers: name the body that they belong to")
        return [path]
    files = {file.name: file for file in sorted(path.iterdir()) if file.is_file()}
    for name in files:
        body = name.removesuffix(HEADERS_SUFFIX)
        if body != name and body not in files:
            raise UsageError(f"{path / name}: headers of {body}, which is not beside it")
    bodies = [
        file
        for name, file in files.items()
        if not name.endswith(HEADERS_SUFFIX) and not name.startswith(".")
    ]
    if not bodies:
        raise UsageError(f"{path}: no bodies; name them {_NAME_FORM}")
    return bodies


def _read_body(file: Path, offset: int, now_ms: int) -> RawBody:
    parts = file.name.split(".")
    if len(parts) < 3 or not parts[-2]:
        raise UsageError(f"{file}: name it {_NAME_FORM}, as in 01.hub88.json")
    provider = parts[-2]
    if provider not in DIALECTS:
        hint = suggest(provider, DIALECTS) or f": take one of {', '.join(sorted(DIALECTS))}"
        raise UsageError(f"{file}: {provider!r} is not a registered provider{hint}")
    beside = file.with_name(file.name + HEADERS_SUFFIX)
    headers = _read_headers(beside) if beside.exists() else []
    return RawBody(file.name, raw_topic(provider), file.read_bytes(), headers, offset, now_ms)


def _read_headers(file: Path) -> list[tuple[str, bytes | None]]:
    try:
        headers = msgspec.convert(json.loads(file.read_bytes()), Mapping[str, str | None])
    except (ValueError, msgspec.ValidationError) as error:
        raise UsageError(f"{file}: expected a JSON object of texts: {error}") from error
    return [
        (name.lower(), None if text is None else text.encode()) for name, text in headers.items()
    ]
