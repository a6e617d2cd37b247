"""The canonical workload of `pitboss bench ledger` against a real database, at a tiny size."""

from __future__ import annotations

import pytest

from lab.bench.ledger_canonical import run_canonical
from lab.bench.ledger_harness import LedgerHarness, make_month
from lab.bench.ledger_traffic import LedgerTraffic
from pitboss.cli.bench import _ledger_database
from pitboss.cli.progress import StepProgress

pytestmark = [pytest.mark.integration, pytest.mark.prove]


async def test_every_event_is_booked_once_in_batches_and_one_by_one(stack, namespace):
    with _ledger_database(stack.runtime(namespace), namespace) as url:
        make_month(url)
        traffic = LedgerTraffic(1, 50)
        progress = StepProgress()
        async with LedgerHarness(url) as bench:
            await bench.run(list(traffic.deposits()), progress.update)
            figures = await run_canonical(bench, traffic, 600, progress)
    assert figures.batched.rate.events == 600
    assert figures.single.rate.events == 600
    assert figures.single.transactions == 600
    assert figures.seal_s > 0
    output = figures.as_json()
    assert 0 < output["transfers_per_s"] < output["committed_per_s"]
    assert output["batch_p50_ms"] <= output["batch_p99_ms"] <= output["batch_max_ms"]
    assert 0 < output["one_in_flight"]["p50_ms"] <= output["one_in_flight"]["max_ms"]
    assert len(figures.rows()) == 3
