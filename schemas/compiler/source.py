"""Generated functions: their lines, the objects they name, and their compilation to a callable."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any


class FunctionSource:
    """Lines of one function under construction, and the objects that its free names refer to."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, Any] = {}

    def add(self, depth: int, *lines: str) -> None:
        """Append lines at a depth of indentation."""
        self._lines.extend("    " * depth + line for line in lines)

    def name(self, stem: str, value: object) -> str:
        """Return a free name for an object: the stem, numbered where it is taken."""
        name, number = stem, 1
        while name in self._names and self._names[name] is not value:
            number += 1
            name = f"{stem}_{number}"
        self._names[name] = value
        return name

    @property
    def text(self) -> str:
        """Text of the program so far."""
        return "\n".join(self._lines) + "\n"

    def function(self, name: str, title: str) -> Callable[..., Any]:
        """Compile the lines and return the function they define.

        `title` is its file name in tracebacks.
        """
        file = f"<{title}>"
        text = self.text
        # As doctest and attrs do: tracebacks and debuggers then show the lines of the function.
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec"), self._names)  # noqa: S102 - from our own schema files, never from input
        function: Callable[..., Any] = self._names[name]
        return function
