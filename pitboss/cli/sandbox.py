"""`pitboss sandbox`: seeded players and providers that speak the real dialects."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from lab.conformance.writers.find import find_writers
from lab.sandbox.actions import PROVIDERS
from lab.sandbox.feeder import feed_records
from lab.sandbox.keys import SandboxKeys, merge_keyrings, unknown_to
from lab.sandbox.records import RawEvent, json_lines
from lab.sandbox.results import make_results
from lab.sandbox.scenario import Scenario, duration_ms
from lab.sandbox.scenario import generate as generate_records
from lab.sandbox.writing import ReportProgress
from pitboss.cli.files import naming_file
from pitboss.cli.option_types import RATE
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import SuggestingGroup
from pitboss.embedded.files import write_atomically
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.topic_admin import find_missing_topics
from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, StackSettings, read_settings, read_worker_settings
from pitboss.workers.role_locks import list_running
from schemas.errors import UsageError
from schemas.events import GameResult
from schemas.topics import GAME_RESULTS, raw_topic

_MARGIN_MS = 1_000  # between the last simulated moment and now
_START_MS_MAX = 32_503_680_000_000
"""The year 3000: however long the play, its times can be written in every dialect."""


_OPTIONS = (
    click.option(
        "--events",
        default=20_000,
        show_default=True,
        type=click.IntRange(1),
        help="Raw records in all.",
    ),
    click.option(
        "--seed",
        default=1,
        show_default=True,
        type=click.IntRange(0),
        help="Of all random choices.",
    ),
    click.option(
        "--providers",
        default=",".join(PROVIDERS),
        show_default=True,
        help="Who sends: names with commas between them, or all that have a writer.",
    ),
    click.option("--players", type=click.IntRange(1), help="Default: one for each 50 events."),
    click.option(
        "--retries",
        "retry_share",
        default=0.01,
        show_default=True,
        help="Share sent again.",
    ),
    click.option(
        "--reorder",
        "reorder_share",
        default=0.01,
        show_default=True,
        help="Share overtaken by others.",
    ),
    click.option(
        "--poison",
        default=5,
        show_default=True,
        type=click.IntRange(0),
        help="Unusable records.",
    ),
    click.option(
        "--speeders",
        type=click.IntRange(0),
        help="Accounts with 600 bets in a minute. Default: 1 from 2000 events on.",
    ),
    click.option(
        "--start-ms",
        type=click.IntRange(0, _START_MS_MAX),
        help="Simulated start, epoch ms. Default: so that it ends now.",
    ),
    click.option(
        "--keys",
        "keys_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Secrets; made if missing. Default: under the installation's home.",
    ),
)


@click.group(cls=SuggestingGroup)
def sandbox() -> None:
    """Play a seeded casino: the same numbers and keys make the same records, byte for byte."""


def _scenario_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@sandbox.command()
@_scenario_options
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON lines, bytes in base64.",
)
def generate(out: Path, keys_file: Path | None, **numbers: Any) -> None:
    """Write a scenario's raw records to a file."""
    records, took_s = _generate(_make_scenario(**numbers), _load_keys(read_settings(), keys_file))
    with naming_file(out), out.open("wb") as file:
        file.writelines(json_lines(records))
    click.echo(f"{len(records)} records in {took_s:.1f} s to {out}")


@sandbox.command()
@_scenario_options
@click.option("--rate", type=RATE, help="Records a second. Default: as fast as possible.")
@click.option(
    "--yes-use-these-servers",
    "may_use_given",
    is_flag=True,
    help="Feed servers that the environment names.",
)
def feed(rate: float | None, may_use_given: bool, keys_file: Path | None, **numbers: Any) -> None:
    """Play a scenario into the raw topics of a running installation.

    Results of its rounds go to `game.results.v1`: those that a provider signs, and commitments and
    seeds of a provably fair wheel.

    Its workers verify signatures if PITBOSS_KEYS_FILE names the keyring that this command writes
    beside the secrets. Where they have a keyring of their own, `pitboss sandbox keyring` makes one
    of both.
    """
    settings = read_settings()
    if settings.uses_given_servers and not may_use_given:
        raise UsageError(
            "PITBOSS_KAFKA names a server that is not ours: add --yes-use-these-servers to feed it"
        )
    runtime = resolve_runtime(settings)
    scenario, keys = _make_scenario(**numbers), _load_keys(settings, keys_file)
    _check_signatures(settings, keys, scenario.providers)
    records, _ = _generate(scenario, keys)
    results = make_results(scenario)
    _check_topics(runtime, records)
    start_s = time.monotonic()
    with StepProgress() as progress:
        progress.begin("feeding")
        asyncio.run(_append(runtime, records, results, rate, progress.update))
    took_s = time.monotonic() - start_s
    click.echo(
        f"{len(records)} records and {len(results)} results of games fed in {took_s:.1f} s"
        f" ({len(records) / took_s:,.0f}/s)"
    )


@sandbox.command()
@click.option(
    "--with",
    "own_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The workers' keyring. Default: that of PITBOSS_KEYS_FILE.",
)
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Secrets of the sandbox; made if missing. Default: under the installation's home.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The keyring of both.",
)
def keyring(own_file: Path | None, keys_file: Path | None, out: Path) -> None:
    """Write a keyring that takes the sandbox's records beside those of the installation's keys.

    For a test installation only: who has the sandbox's secrets can sign for every provider.
    """
    settings, worker = read_settings(), read_worker_settings()
    own = read_keyring(
        worker
        if own_file is None
        else replace_fields(worker, keys_file=own_file, keys_place="--with")
    )
    ours = _load_keys(settings, keys_file).keyring()
    merged = merge_keyrings(own, ours, unknown_to(own, ours))
    with naming_file(out):
        write_atomically(out, json.dumps(merged, indent=2) + "\n")
    click.echo(f"restart the workers with PITBOSS_KEYS_FILE={out}", err=True)


def _check_signatures(
    settings: StackSettings, keys: SandboxKeys, providers: Collection[str]
) -> None:
    """Raise UsageError if the workers check a provider of the scenario by other keys."""
    worker = read_worker_settings()
    running = list_running(settings.home, settings.namespace)
    by_workers = [one for one in running if one.role == "normalise"]
    if by_workers:
        file = by_workers[0].keys_file
        worker = replace_fields(worker, keys_file=None if file is None else Path(file))
    ours = {name: ring for name, ring in keys.keyring().items() if name in providers}
    if unknown := unknown_to(read_keyring(worker), ours):
        raise UsageError(
            f"the workers' keyring {worker.keys_file} has other keys of {', '.join(unknown)}, so "
            "the sandbox's records would be rejected (BAD_SIGNATURE): make a keyring of both with "
            f"`pitboss sandbox keyring --with {worker.keys_file} --out FILE` and restart the "
            "workers with it, or choose others with --providers"
        )


def _check_topics(runtime: Runtime, records: Sequence[RawEvent]) -> None:
    """Raise UsageError if a topic is missing: nothing is fed then."""
    topics = {runtime.topic(raw_topic(name)): name for name in {one.provider for one in records}}
    topics[runtime.topic(GAME_RESULTS)] = GAME_RESULTS
    missing = asyncio.run(find_missing_topics(runtime.broker, topics))
    if missing:
        raise UsageError(
            f"the broker has no topic {', '.join(missing)}: run `pitboss provision` (with "
            "PITBOSS_PROVIDERS, if that names some), or choose others with --providers"
        )


async def _append(
    runtime: Runtime,
    records: Sequence[RawEvent],
    results: Sequence[GameResult],
    rate: float | None,
    progress: ReportProgress,
) -> None:
    from runtime.kafka.producer import BatchProducer, ProducerSettings

    producer = BatchProducer(ProducerSettings(runtime.broker, "pitboss-sandbox"))
    await producer.start()
    try:
        await feed_records(
            records,
            producer,
            results=results,
            namespace=runtime.namespace,
            rate=rate,
            progress=progress,
        )
    finally:
        await producer.stop()


def _make_scenario(
    start_ms: int | None, speeders: int | None, providers: str, **numbers: Any
) -> Scenario:
    if speeders is None:
        speeders = 1 if numbers["events"] >= 2_000 else 0
    names = tuple(find_writers()) if providers == "all" else _split(providers)
    scenario = Scenario(start_ms=start_ms or 0, speeders=speeders, providers=names, **numbers)
    if start_ms is None:
        now_ms = time.time_ns() // 1_000_000
        scenario = replace(scenario, start_ms=now_ms - duration_ms(scenario) - _MARGIN_MS)
    click.echo(f"seed {scenario.seed}, start {scenario.start_ms}", err=True)
    return scenario


def _split(providers: str) -> tuple[str, ...]:
    return tuple(name for part in providers.split(",") if (name := part.strip()))


def _load_keys(settings: StackSettings, path: Path | None) -> SandboxKeys:
    if path is None:
        path = settings.home / "sandbox-keys.json"
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        stored = SandboxKeys.load(path)
        keys = stored.complete()
    else:
        stored, keys = None, SandboxKeys.generate()
    if keys is not stored:
        with naming_file(path):
            keys.save(path)
    _write_keyring(keys, path.with_name(path.stem + ".keyring.json"))
    return keys


def _write_keyring(keys: SandboxKeys, path: Path) -> None:
    text = json.dumps(keys.keyring(), indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.touch(mode=0o600)
    with naming_file(path):
        path.write_text(text, encoding="utf-8")
    click.echo(f"keyring for the workers: PITBOSS_KEYS_FILE={path}", err=True)


def _generate(scenario: Scenario, keys: SandboxKeys) -> tuple[list[RawEvent], float]:
    start_s = time.monotonic()
    with StepProgress() as progress:
        progress.begin("generating")
        records = generate_records(scenario, keys, progress.update)
    return records, time.monotonic() - start_s
