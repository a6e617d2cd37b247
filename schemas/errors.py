"""Errors of all components; each carries its own policy, so a loop needs no table of errors.

PitbossError                 code, retriable, exit_code
├── Rejected                 one item of input is unusable: dead letter, the partition continues
├── Unavailable              a server is away: back off, try again, acknowledge nothing
├── UsageError               the request cannot be carried out: says what to do instead
└── Fatal                    to continue would lose or double something: exit with `exit_code`
    ├── LogMismatch          the log is not the one that the stored position belongs to
    ├── Fenced               another worker has claimed the partition since
    ├── OffsetHole           the log still reaches back, yet records are missing from a fetch
    ├── SendFailed           a record could not be appended, and no further attempt is made
    ├── Stalled              lag without progress
    └── InvariantBroken      one of our own rules does not hold: a bug, never an input
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from enum import StrEnum
from itertools import takewhile
from typing import ClassVar, Final


class RejectCode(StrEnum):
    """Reason why an input is unusable. A closed set: a dead letter's `code` and a metric label."""

    MALFORMED = "MALFORMED"  # not parsable in its format at all
    UNKNOWN_PROVIDER = "UNKNOWN_PROVIDER"
    UNKNOWN_BRAND = "UNKNOWN_BRAND"  # the header brand is missing, or not of its provider
    UNKNOWN_OPERATION = "UNKNOWN_OPERATION"
    MISSING_SIGNATURE = "MISSING_SIGNATURE"
    BAD_SIGNATURE = "BAD_SIGNATURE"
    MISSING_FIELD = "MISSING_FIELD"
    BAD_FIELD = "BAD_FIELD"
    BAD_AMOUNT = "BAD_AMOUNT"  # not a number, negative where it may not be, outside 64 bits
    AMOUNT_SCALE = (
        "AMOUNT_SCALE"  # more decimals than the currency has: money would have to be made or lost
    )
    BAD_CURRENCY = "BAD_CURRENCY"
    BAD_TIME = "BAD_TIME"
    BAD_HEADER = "BAD_HEADER"  # the name of a Kafka header is not UTF-8
    BAD_CONTRACT = "BAD_CONTRACT"  # a record on one of our own topics that our schemas cannot read
    TOO_LARGE = "TOO_LARGE"
    # It would have to wait behind a dead letter of its player, and too much waits already.
    PARK_FULL = "PARK_FULL"
    # Our own mistake: the dialect raised another error. Redrive after its repair.
    DIALECT_FAILED = "DIALECT_FAILED"


class PitbossError(Exception):
    """Base of all our errors: says what happened, where (topic-partition@offset) and what to do."""

    code: ClassVar[str] = "PITBOSS"
    retriable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class Rejected(PitbossError):
    """One item of input is unusable: its bytes become a dead letter, and the stream continues."""

    code = "REJECTED"

    def __init__(self, reason: RejectCode, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Unavailable(PitbossError):
    """A server is away for now."""

    code = "UNAVAILABLE"
    retriable = True
    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


class PartitionStuck(PitbossError):
    """A record stops its partition, which waits at it; the other partitions go on."""

    code = "PARTITION_STUCK"
    retriable = True


class UsageError(PitbossError):
    """The request cannot be carried out as asked."""

    code = "USAGE"
    exit_code = 2


class Fatal(PitbossError):
    """To continue would lose or double something."""

    code = "FATAL"
    exit_code = 70  # EX_SOFTWARE


class LogMismatch(Fatal):
    """The log is not the one that the stored position belongs to; positions are never reset."""

    code = "LOG_MISMATCH"
    exit_code = 71


class Fenced(Fatal):
    """Another worker has claimed the partition since."""

    code = "FENCED"
    exit_code = 72


class OffsetHole(Fatal):
    """A fetch skipped records that the log still holds."""

    code = "OFFSET_HOLE"
    exit_code = 73


class SendFailed(Fatal):
    """A record could not be appended; to continue would put a later one before it."""

    code = "SEND_FAILED"
    exit_code = 74


class Stalled(Fatal):
    """There is lag and no progress."""

    code = "STALLED"
    exit_code = 75


class InvariantBroken(Fatal):
    """One of our own rules does not hold: a bug, never an input."""

    code = "INVARIANT"
    exit_code = 76


_NEAR_MAX: Final = 20
"""Similar names to choose the nearest from."""


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to a word; None if none is near.

    Case, dashes and underscores do not count: `hub-88` and `HUB88` are both `hub88` to the person
    who types them. Of equally near ones, that with the longest common beginning wins: of EUX, EUR
    and not UGX. The names are compared in their order, so that the answer is always the same.
    """

    def bare(name: str) -> str:
        return name.lower().replace("-", "").replace("_", "") or name

    names = {bare(name): name for name in sorted(known, reverse=True)}
    typed = bare(word)
    found = get_close_matches(typed, sorted(names), _NEAR_MAX)
    if not found:
        return None

    def nearness(name: str) -> tuple[float, int]:
        in_common = takewhile(lambda pair: pair[0] == pair[1], zip(name, typed, strict=False))
        return SequenceMatcher(None, name, typed).ratio(), len(list(in_common))

    return names[max(found, key=nearness)]


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a clause that names the nearest known name, to end a sentence; empty if none is near.

    The sentence is without its full stop.
    """
    name = nearest_name(word, known)
    return "" if name is None else f": did you mean {name!r}?"
