"""Functions written by a program: their lines, the objects they name, and the way to a callable."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any


class FunctionSource:
    """The lines of one function under construction, and the objects that its free names stand for."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, Any] = {}

    def add(self, depth: int, *lines: str) -> None:
        """Append lines at a depth of indentation."""
        self._lines.extend("    " * depth + line for line in lines)

    def name(self, stem: str, value: object) -> str:
        """A free name for an object: the stem, with a number where the stem already stands for
        something else.
        """
        name, number = stem, 1
        while name in self._names and self._names[name] is not value:
            number += 1
            name = f"{stem}_{number}"
        self._names[name] = value
        return name

    @property
    def text(self) -> str:
        """The program so far."""
        return "\n".join(self._lines) + "\n"

    def function(self, name: str, title: str) -> Callable[..., Any]:
        """Compile the lines and return the function they define.

        `title` stands for a file name in tracebacks.
        """
        file = f"<{title}>"
        text = self.text
        # As doctest and attrs do: whoever meets the function in a traceback or a debugger sees its
        # lines.
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec"), self._names)
        function: Callable[..., Any] = self._names[name]
        return function
