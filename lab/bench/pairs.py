"""Two sides in turns: ours, peer, ours, peer … so that whatever the machine does meanwhile, it does
to both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lab.bench.progress import BenchProgress
from lab.bench.rates import Pair, Rate

MeasureOnce = Callable[[], Awaitable[Rate]]


async def run_pairs(
    count: int,
    ours: MeasureOnce,
    peer: MeasureOnce,
    names: tuple[str, str],
    progress: BenchProgress,
) -> list[Pair]:
    """Run each side `count` times."""
    pairs = []
    for number in range(1, count + 1):
        rates = []
        for name, run in zip(names, (ours, peer), strict=True):
            progress.begin(f"pair {number} of {count}, {name}")
            rate = await run()
            progress.end(f"{rate.per_s:,.0f}/s, {rate.cpu_s_per_million:.1f} CPU s a million")
            rates.append(rate)
        pairs.append(Pair(rates[0], rates[1]))
    return pairs
