"""Seeds of labelled traffic: which were used for tuning, and which were kept apart.

A score of a seed that a number was chosen by says how well that number was chosen, not how well the
detectors find what they have not seen. So a detector or a rule is changed by what the seeds of
`TUNING_SEEDS` show, and `HELD_OUT_SEEDS` are scored, by tests and releases, and never looked into.
Once a case of a held-out seed has led to a change, the seed moves to the others and a new one takes
its place.
"""

from __future__ import annotations

from typing import Final

TUNING_SEEDS: Final = (1,)
"""Seeds that were looked at while the detectors were written."""
HELD_OUT_SEEDS: Final = (2, 3, 4, 5)
"""Seeds that no number was chosen by."""
