"""`pitboss providers fuzz`: valid and broken traffic of every adapter through the normaliser.

What it runs is in `lab.conformance`, which is imported on use: the production image has no lab.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
import orjson

from pitboss.cli import screen
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import PROVIDER
from pitboss.lab_package import requiring_lab

if TYPE_CHECKING:
    from lab.conformance.adapters import AdapterUnderTest
    from lab.conformance.fuzz import FuzzReport
    from lab.conformance.packing import PackingReport


@click.command()
@click.option(
    "--count", default=10_000, show_default=True, type=click.IntRange(1), help="Messages in all."
)
@click.option(
    "--seed", default=1, show_default=True, type=click.IntRange(0), help="Of all random choices."
)
@click.option("--only", type=click.IntRange(0), help="Send this one message again, and show it.")
@click.option(
    "--provider",
    multiple=True,
    type=PROVIDER,
    help="Only these; the numbering of messages depends on which there are.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.pass_context
def fuzz(
    context: click.Context,
    count: int,
    seed: int,
    only: int | None,
    provider: tuple[str, ...],
    as_json: bool,
) -> None:
    """Send every adapter's examples, also restyled, with odd contents or broken, to the normaliser.

    Exit code 1 if anything but a typed rejection was raised, an item was neither accepted nor
    rejected, or an event says something else than its message. The same seed sends the same
    messages for every count.

    Stories of each provider are told again in another packing (joined, split, overlapping,
    re-ordered, by another version, with placeholders in optional places) and must book the same
    money (`repacked`); what takes something back must bring every balance back (`mirrored`).
    """
    with requiring_lab("`pitboss providers fuzz`"):
        import_module("lab.conformance")
    adapters = _choose_adapters(provider)
    if only is not None:
        context.exit(_show_one(seed, only, adapters))
    report, packings = _run(seed, count, adapters)
    if as_json:
        click.echo(orjson.dumps(_to_json(report, packings)))
    else:
        _show(report, packings)
    _complain(report, provider)
    _complain_of_stories(packings)
    context.exit(0 if report.total.is_clean and packings.total.is_clean else 1)


def _choose_adapters(names: Sequence[str]) -> list[AdapterUnderTest]:
    from lab.conformance.adapters import all_adapters

    return [adapter for adapter in all_adapters() if not names or adapter.dialect.provider in names]


def _run(
    seed: int, count: int, adapters: Sequence[AdapterUnderTest]
) -> tuple[FuzzReport, PackingReport]:
    from lab.conformance.fuzz import run_fuzz
    from lab.conformance.packing import check_packings, stories_for

    with StepProgress() as progress:
        progress.begin("fuzzing")
        report = run_fuzz(seed, range(count), adapters, lambda sent: progress.update(sent, count))
        progress.begin("telling stories again")
        stories = stories_for(count, len(adapters))
        packings = check_packings(
            adapters, seed, stories, lambda done: progress.update(done, stories * len(adapters))
        )
    return report, packings


def _to_json(report: FuzzReport, packings: PackingReport) -> dict[str, Any]:
    described = report.as_json()
    by_adapter = {
        name: tally | packings.by_adapter[name].as_json()
        for name, tally in described["by_adapter"].items()
    }
    stories = [failure._asdict() for failure in packings.failures]
    return {
        **described,
        **packings.total.as_json(),
        "by_adapter": by_adapter,
        "story_failures": stories,
    }


def _show(report: FuzzReport, packings: PackingReport) -> None:
    columns = (*report.total.as_json(), *packings.total.as_json())
    table = screen.table("adapter", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [(name, tally, packings.by_adapter[name]) for name, tally in report.by_adapter.items()]
    for name, tally, packing in [*rows, ("all", report.total, packings.total)]:
        counts = tally.as_json() | packing.as_json()
        table.add_row(name, *[f"{counts[column]:,}" for column in columns])
    screen.show(table)


def _complain_of_stories(packings: PackingReport) -> None:
    for failure in packings.failures:
        click.echo(f"\n{failure.adapter}, story {failure.seed}: {failure.what}", err=True)
        click.echo(failure.detail, err=True)


def _complain(report: FuzzReport, names: Sequence[str]) -> None:
    from lab.conformance.fuzz import ACCEPTED_SHARE_MIN

    chosen = "".join(f" --provider {name}" for name in names)
    for failure in report.failures:
        click.echo(f"\n{failure.adapter}, {failure.mode}, {failure.example!r}:", err=True)
        click.echo("\n".join(failure.faults), err=True)
        again = f"pitboss providers fuzz --seed {report.seed}{chosen} --only {failure.index}"
        click.echo(f"to see it: {again}", err=True)
    for name in report.too_few_accepted:
        click.echo(
            f"{name}: less than {ACCEPTED_SHARE_MIN:.0%} accepted, so little of it was tried",
            err=True,
        )


def _show_one(seed: int, index: int, adapters: Sequence[AdapterUnderTest]) -> int:
    from lab.conformance.cases import make_case
    from lab.conformance.fuzz import check_case, normalise_case

    case = make_case(seed, index, adapters)
    results = normalise_case(case)
    faults = check_case(case, results)
    shown: dict[str, Any] = {
        "adapter": case.adapter.name,
        "example": case.example.name,
        "mode": case.mode.value,
        "keyed": case.keyed,
        "headers": {name: repr(value) for name, value in case.example.headers.items()},
        "key": repr(case.example.key),
        "value": repr(case.example.value),
        "expects": [repr(expected) for expected in case.example.expects],
        "results": [repr(item) for item in results],
        "faults": [f"{fault.kind}: {fault.detail}" for fault in faults],
    }
    click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    return 1 if faults else 0
