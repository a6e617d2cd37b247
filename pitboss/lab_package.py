"""Guard for commands that need the `lab` package, which the production image leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import UsageError


class LabMissing(UsageError):
    """The package `lab` is not installed, and the command or section cannot do without it."""


@contextmanager
def requiring_lab(subject: str) -> Iterator[None]:
    """Turn a missing `lab` package into an error that names `subject` and says what to install.

    Raises LabMissing; every other import error passes through as it is, since it is a bug.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lab":
            raise
        raise LabMissing(
            f"{subject} needs the lab package, which the production image leaves out;"
            " install Pitboss from a checkout of its sources: pip install ."
        ) from error
