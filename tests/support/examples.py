"""How many examples a property is tried with: all in `make prove`, some of them in `make test`."""

from __future__ import annotations

from hypothesis import settings

ALL = 100
"""Examples of a property without a number of its own, in `make prove`."""

SOME = 30
"""The same in `make test`, which is run between two edits: a fault that only the others find waits for a night."""

FEWEST = 10


def examples(count: int) -> settings:
    """Try a property with so many examples in `make prove`, and with the profile's share of them elsewhere."""
    share = settings().max_examples  # of the profile, in hundredths
    return settings(max_examples=max(min(count, FEWEST), count * share // ALL))
