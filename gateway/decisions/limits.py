"""How much a gateway takes at the same time, from whom, and when it takes nothing.

All of it is decided by counts and by the time that the caller passes, in seconds of any clock that
only goes forward.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Hashable, Mapping
from typing import Final, Generic, TypeVar

WaiterT = TypeVar("WaiterT", bound=Hashable)

BUCKETS_MAX: Final = 100_000
"""Buckets that are kept; the one used longest ago is forgotten first, and would be full again."""


class TokenBuckets:
    """A bucket of tokens for each key: `burst` at most, and `rate` new ones a second."""

    def __init__(self, rate: float, burst: float, keys_max: int = BUCKETS_MAX) -> None:
        """Make every bucket full."""
        self._rate = rate
        self._burst = burst
        self._keys_max = keys_max
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """Tokens, and the time at which there were so many."""

    def take(self, key: Hashable, now_s: float) -> bool:
        """Take a token of a key, and return whether there was one."""
        tokens, then_s = self._buckets.pop(key, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - then_s) * self._rate)
        is_there = tokens >= 1
        self._buckets[key] = (tokens - 1 if is_there else tokens, now_s)
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        return is_there


class Places:
    """The calls that may wait at the same time, divided between providers.

    Half of the places are theirs in equal shares, whatever the others do; the other half goes to
    the first that comes. So a provider that sends ten times its rate takes no place that another
    one needs.
    """

    def __init__(self, count: int, providers: Collection[str]) -> None:
        """Divide `count` places between `providers`; each has one at least."""
        self._share = max(1, count // 2 // max(1, len(providers)))
        self._shared = count - self._share * len(providers)
        self._held: Counter[str] = Counter()
        self._borrowed = 0
        self.held = 0
        """Number of places that are taken."""

    def take(self, provider: str) -> bool:
        """Take a place for a call, and return whether there was one."""
        if self._held[provider] >= self._share:
            if self._borrowed >= self._shared:
                return False
            self._borrowed += 1
        self._held[provider] += 1
        self.held += 1
        return True

    def give_back(self, provider: str) -> None:
        """Give the place of a call back."""
        if self._held[provider] > self._share:
            self._borrowed -= 1
        self._held[provider] -= 1
        self.held -= 1


class FairTurns(Generic[WaiterT]):
    """Whose call is tried next, where more wait than may be undecided at the same time.

    What is appended is decided in the order of the log: there a provider that sends ten times its
    rate would keep all others waiting. So only so many attempts are undecided
    at a time, and what is above waits here, in a line of its own provider. Free turns go round the
    lines, to each by its weight, and within a line to the one that came first (stride scheduling).
    """

    def __init__(self, turns: int, weights: Mapping[str, float] | None = None) -> None:
        """Have `turns` free; a provider without a weight has the weight 1.

        Raises ValueError for a weight that is not above zero.
        """
        if any(not weight > 0 for weight in (weights or {}).values()):
            message = f"a weight is above zero: {dict(weights or {})}"
            raise ValueError(message)
        self._free = turns
        self._weights = dict(weights or {})
        self._lines: dict[str, deque[WaiterT]] = {}
        """Lines that are not empty."""
        self._passes: dict[str, float] = {}
        """How much each provider has had, in turns by weight; those that wait, and the last few."""
        self._now = 0.0
        """The pass of the turn that was given last: a new line begins there."""

    @property
    def waiting(self) -> int:
        """Number of those that wait."""
        return sum(map(len, self._lines.values()))

    def take(self, provider: str) -> bool:
        """Take a turn at once, and return whether there was one; the line is not passed by."""
        if self._free <= 0 or self._lines:
            return False
        self._free -= 1
        self._count(provider)
        return True

    def line_up(self, provider: str, waiter: WaiterT) -> None:
        """Wait at the end of a provider's line."""
        self._lines.setdefault(provider, deque()).append(waiter)

    def leave(self, provider: str, waiter: WaiterT) -> None:
        """Leave the line, without a turn; nothing happens where it is not in it any more."""
        line = self._lines.get(provider, deque())
        if waiter in line:
            line.remove(waiter)
        if not line:
            self._lines.pop(provider, None)

    def give_back(self) -> WaiterT | None:
        """Give a turn back; return who has it now, None where none waits."""
        if not self._lines:
            self._free += 1
            return None
        provider = min(self._lines, key=lambda name: (self._passes.get(name, 0.0), name))
        line = self._lines[provider]
        waiter = line.popleft()
        if not line:
            del self._lines[provider]
        self._count(provider)
        return waiter

    def _count(self, provider: str) -> None:
        # What a provider did not use while it was quiet is not kept for it.
        before = max(self._passes.get(provider, 0.0), self._now)
        self._now = before
        self._passes[provider] = before + 1.0 / self._weights.get(provider, 1.0)


class Circuit:
    """Whether calls are worth waiting for: not while none is decided in time.

    It opens after `failures_max` calls in a row that were not decided in time. Then calls are
    answered at once, except one in `trial_s`, which is tried: the first that is decided closes it.
    """

    def __init__(self, failures_max: int, trial_s: float) -> None:
        """Be closed."""
        self._failures_max = failures_max
        self._trial_s = trial_s
        self._failures = 0
        self._next_trial_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are answered at once."""
        return self._failures >= self._failures_max

    def lets_in(self, now_s: float) -> bool:
        """Return whether a call is to be tried."""
        if not self.is_open:
            return True
        if now_s < self._next_trial_s:
            return False
        self._next_trial_s = now_s + self._trial_s
        return True

    def note_decided(self) -> None:
        """Note that a call was decided in time."""
        self._failures = 0

    def note_late(self, now_s: float) -> None:
        """Note that a call was not decided in time."""
        self._failures += 1
        if self._failures == self._failures_max:
            self._next_trial_s = now_s + self._trial_s
