"""`pitboss replay record` and `play`: a slice as files, and into a topic of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # of its stubs

from pitboss.cli.ledger_queries import json_option, print_json
from pitboss.cli.option_types import FiniteFloat, offset_options, period_options, rate_option
from pitboss.cli.progress import StepProgress, show_waiting
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.exports import UnmaskedExport, check_export_policy, missing_packages
from pitboss.ops.periods import check_period
from pitboss.settings import read_settings
from runtime.security import BrokerAddress
from schemas.errors import SendFailed, Unavailable, UsageError
from schemas.topics import OUTCOMES

if TYPE_CHECKING:
    from replay.archive.record import RecordedRecord

_ANSWER_TIMEOUT_S = 30.0


@click.command()
@click.argument("topic")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the slice.")
@period_options(of="append time")
@offset_options
@click.option("--reason", required=True, help="Why exact bytes are needed; it is recorded.")
@rate_option
@json_option
def record(
    topic: str, *, out: Path, reason: str, rate: float, as_json: bool, **slice_: Any
) -> None:
    """Keep a slice of TOPIC as files: bytes, headers and times, as a fixture or to be played.

    The files are of the archive's form: `pitboss archive verify --target` checks them. Nothing in
    them is masked, so the reason is recorded as for an unmasked export. The outcomes of the records
    of a raw topic or of the log are kept beside the folder, in `<out>.outcomes.jsonl`.
    """
    check_period(slice_["since_ms"], slice_["until_ms"])
    check_export_policy(unmasked=True)
    with missing_packages("replay record"):
        from replay.archive.archived_log import ArchivedLog
        from replay.archive.outcomes import collect_outcomes, outcomes_file, write_outcomes
        from replay.archive.record import record_slice
        from replay.archive.store import LocalStore
        from replay.export.plan import plan_export
        from replay.export.request import ExportRequest
    if out.exists():
        raise UsageError(f"{out} exists already: name another folder, or remove it")
    runtime = resolve_runtime(read_settings())
    unqualified = topic.removeprefix(runtime.prefix)
    request = ExportRequest(unqualified, unmask_reason=reason, **slice_)
    audit = UnmaskedExport(runtime, runtime.topic(unqualified), request, reason)
    audit.begin()
    with open_log(runtime, rate) as source, StepProgress() as progress:
        progress.begin(f"recording {runtime.topic(unqualified)}")
        plan = plan_export(source, request, runtime.topic(unqualified))
        made = record_slice(source, plan, LocalStore(out), progress.update)
        progress.begin("collecting the outcomes of its records")
        outcomes_topic = runtime.topic(OUTCOMES)
        recorded = ArchivedLog(LocalStore(out))
        outcomes = collect_outcomes(source, outcomes_topic, runtime.prefix, made, recorded)
    if outcomes:
        write_outcomes(outcomes_file(out), outcomes)
    records = sum(each.records for each in made)
    audit.end(records, None)
    if as_json:
        print_json(made)
    else:
        click.echo(
            f"{records:,} records of {len(made):,} files in {out}, {len(outcomes):,} outcomes"
        )


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--into", required=True, help="Topic to play into; it is created if it is missing.")
@click.option(
    "--speed",
    type=FiniteFloat(min=0),
    default=1.0,
    show_default=True,
    help="How many times as fast as it was; 0 for as fast as possible.",
)
def play(*, folder: Path, into: str, speed: float) -> None:
    """Play a recorded slice into another topic, at its own speed, faster, or at full speed.

    Keys, values, headers, times and partitions are as they were. A topic that is named like one of
    an installation is refused: its workers would act on what is played.
    """
    with missing_packages("replay play"):
        from replay.archive.archived_log import ArchivedLog
        from replay.archive.manifest import spans_of
        from replay.archive.record import check_play_target, in_time_order
        from replay.archive.record import play as play_records
        from replay.archive.store import LocalStore
    check_play_target(into)
    store = LocalStore(folder)
    spans = spans_of(store.list())
    topics = sorted({span.topic for span in spans})
    if len(topics) != 1:
        found = ", ".join(topics) or "none"
        raise UsageError(f"{folder} must hold the recorded slice of one topic, it has {found}")
    runtime = resolve_runtime(read_settings())
    partitions = max(span.partition for span in spans) + 1
    _create_topic(runtime.broker, into, partitions)
    sender = _Sender(runtime.broker, into)
    records = in_time_order(ArchivedLog(store), topics[0])
    with show_waiting(f"playing into {into}"):
        count = play_records(records, sender.send, speed)
        sender.finish()
    click.echo(f"{count:,} records played into {into}")


def _create_topic(broker: BrokerAddress, name: str, partitions: int) -> None:
    admin = AdminClient(broker.librdkafka_options())
    try:
        there = admin.list_topics(timeout=_ANSWER_TIMEOUT_S).topics
        if name not in there:
            settings = {"message.timestamp.type": "CreateTime"}
            admin.create_topics([NewTopic(name, partitions, config=settings)])[name].result(
                _ANSWER_TIMEOUT_S
            )
        elif len(there[name].partitions) < partitions:
            raise UsageError(
                f"{name} has {len(there[name].partitions)} partitions, the slice {partitions}"
            )
    except KafkaException as error:
        raise Unavailable(f"the broker does not create {name}: {error}") from error


class _Sender:
    """Appends records to the partitions that they were in."""

    def __init__(self, broker: BrokerAddress, topic: str) -> None:
        self._topic = topic
        self._failure: str | None = None
        self._producer = Producer(
            {
                **broker.librdkafka_options(),
                "client.id": "pitboss.play",
                "enable.idempotence": True,
                "linger.ms": 5,
                "enable.metrics.push": False,
            }
        )

    def send(self, record_: RecordedRecord) -> None:
        """Append a record; waits while the client is full. Raises SendFailed."""
        while True:
            try:
                self._producer.produce(
                    self._topic,
                    value=record_.value,
                    key=record_.key,
                    partition=record_.partition,
                    timestamp=record_.timestamp_ms,
                    headers=list(record_.headers),
                    on_delivery=self._note,
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                break
        self._check()

    def finish(self) -> None:
        """Wait until all records are acknowledged. Raises SendFailed."""
        if left := self._producer.flush(_ANSWER_TIMEOUT_S):
            self._failure = self._failure or f"{left} records were not acknowledged"
        self._check()

    def _note(self, error: Any, message: Any) -> None:
        del message
        if error is not None:
            self._failure = self._failure or str(error)

    def _check(self) -> None:
        if self._failure is not None:
            raise SendFailed(f"{self._topic}: {self._failure}")
