"""Traces: which are kept, what their spans are, and how they reach a collector."""

from __future__ import annotations

import gzip
import itertools
import random
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from ledger_sink.booking.publisher import find_traceparents
from ledger_sink.booking.traces import DURATION, DecisionTraces
from ledger_sink.rules.book import DecidedEvent, LogEvent
from ledger_sink.rules.journal import Answer
from ledger_sink.store.groups import AppliedGroup, Slice
from pitboss.telemetry_settings import OPT_IN, read_telemetry_settings
from runtime.telemetry.settings import TelemetrySettings
from runtime.telemetry.spans import (
    BATCH_SPANS,
    FinishedSpan,
    OtlpExport,
    SpanQueue,
    create_export,
)
from runtime.telemetry.traces import (
    SlowLimit,
    find_traceparent,
    is_sampled,
    parse_traceparent,
    span_id_of,
    trace_id_of,
    trace_id_of_place,
)
from runtime.telemetry.worker import WorkerTelemetry
from schemas import codec
from schemas.errors import RejectCode, UsageError
from schemas.events import AlertStatus, FraudAlert, Outcome, Position, WalletTransaction
from tests.support.ledger_events import bet

ON = {"PITBOSS_OTLP": "http://127.0.0.1:4318"}
PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + b"0"
TRACE = 0x0AF7651916CD43DD8448EB211C80319C


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        PARENT[:-1],
        PARENT.replace(b"00-", b"01-"),
        PARENT.upper(),
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
    ],
)
def test_only_a_valid_traceparent_is_taken(value):
    assert find_traceparent([("a", b"b"), ("traceparent", value)]) is None
    if value is not None:
        with pytest.raises(ValueError, match="not a traceparent"):
            parse_traceparent(value)


def test_a_traceparent_has_three_parts():
    assert find_traceparent([("a", b"b"), ("traceparent", PARENT)]) == PARENT
    assert parse_traceparent(PARENT) == (TRACE, 0xB7AD6B7169203331, True)
    assert not parse_traceparent(UNSAMPLED).is_sampled


def test_the_share_of_sampled_traces_is_about_what_was_set():
    rng = random.Random(5)
    traces = [trace_id_of(str(uuid.UUID(int=rng.getrandbits(128)))) for _ in range(20_000)]
    assert sum(is_sampled(one, 1.0) for one in traces) == len(traces)
    assert not any(is_sampled(one, 0.0) for one in traces)
    assert 150 < sum(is_sampled(one, 0.01) for one in traces) < 250


def test_ids_follow_from_the_event_and_the_step():
    event_id = "4f2c1a52-8f0e-5a3e-9d64-0c9a1f3f2b11"
    assert f"{trace_id_of(event_id):032x}" == event_id.replace("-", "")
    assert span_id_of(1, "a") == span_id_of(1, "a") != span_id_of(1, "b")
    assert span_id_of(1, "a") != span_id_of(2, "a")
    assert trace_id_of_place("t-0@1") != trace_id_of_place("t-0@2")


def test_slow_is_what_the_slowest_hundredth_takes():
    limit, rng = SlowLimit(), random.Random(1)
    assert not limit.add(500.0), "nothing is slow before there is something to compare with"
    for _ in range(4_000):
        limit.add(rng.uniform(0.01, 0.1))
    assert 0.09 < limit.seconds < 0.12
    assert limit.add(0.2)
    assert not limit.add(0.05)
    for _ in range(8_000):
        limit.add(1.0)
    assert not limit.add(1.0), "what is usual is not slow"


# --- the spans of a decision ------------------------------------------------------------------------------------------


def decided(outcome: str = Outcome.POSTED.value, reason="BOOKED", *, number=1, is_new=True):
    made = bet("tx-1", 100)
    answer = Answer(outcome, reason)
    source = Position("wallet.transactions.v1", 3, number)
    return DecidedEvent(LogEvent(made, source, made.appended_at + 5), answer, 0 if is_new else None)


class Traces:
    """Traces of a ledger worker that keep nothing but what is remarkable."""

    def __init__(self, share: float = 0.0) -> None:
        settings = TelemetrySettings(otlp="http://127.0.0.1:1", trace_share=share)
        self.telemetry = WorkerTelemetry("ledger", "ledger-1", settings)
        self.traces = DecisionTraces(
            self.telemetry, ("wallet.transactions.v1", "wallet.outcomes.v1")
        )

    def observe(self, *decisions: DecidedEvent, parents=None) -> list[FinishedSpan]:
        first = decisions[0].log_event.event.appended_at * 1_000_000
        applied = AppliedGroup(
            newly_committed=[Slice(3, 0, 9, ())],
            decided_ns=first + 7_000_000,
            committed_ns=first + 9_000_000,
        )
        self.traces.observe(applied, decisions, parents or {})
        assert self.telemetry.spans is not None
        return self.telemetry.spans.take()


@pytest.mark.parametrize("outcome", Outcome)
def test_what_is_refused_doubled_or_unresolved_is_kept(outcome):
    spans = Traces().observe(decided(outcome.value))
    ordinary = {Outcome.POSTED, Outcome.CANCELLED, Outcome.INFORMATIONAL}
    assert bool(spans) == (outcome not in ordinary)


def test_an_attempt_that_comes_again_and_an_alert_are_kept():
    [root, *_] = Traces().observe(decided(is_new=False))
    assert root.attributes["pitboss.kept"] == "doubled"
    [root, *_] = Traces().observe(decided(reason="BOOKED_INTO_DEBT"))
    assert root.attributes["pitboss.kept"] == "alerted"
    assert Traces().observe(decided()) == []


def test_a_sample_of_the_rest_is_kept():
    [root, *_] = Traces(share=1.0).observe(decided())
    assert root.attributes["pitboss.kept"] == "sampled"


def test_a_trace_has_each_hop_once_and_no_player():
    made = decided(Outcome.REFUSED_FUNDS.value, "NOT_ENOUGH_MONEY")
    event = made.log_event.event
    *spans, batch = Traces().observe(made)
    assert {span.trace_id for span in spans} == {trace_id_of(event.event_id)}
    assert len({span.span_id for span in spans}) == len(spans) == 5
    root, *hops = spans
    assert root.parent_id is None
    assert {hop.parent_id for hop in hops} == {root.span_id}
    raw = event.attempt.topic
    assert [hop.name for hop in hops] == [
        f"send {raw}",
        f"process {raw}",
        "process wallet.transactions.v1",
        "send wallet.outcomes.v1",
    ]
    for one, following in itertools.pairwise(hops):
        assert one.end_ns == following.start_ns
    assert (hops[0].start_ns, hops[-1].end_ns) == (root.start_ns, root.end_ns)
    assert hops[1].end_ns - hops[1].start_ns == 5_000_000
    assert hops[2].end_ns - hops[2].start_ns == 4_000_000
    assert hops[1].attributes["messaging.kafka.offset"] == event.attempt.offset
    assert event.player_id
    assert event.player_id not in str(spans)
    assert [(trace, span) for trace, span, _ in batch.links] == [(root.trace_id, root.span_id)]
    assert batch.attributes["messaging.batch.message_count"] == 1


def test_a_senders_trace_is_gone_on_with():
    made = decided(number=7)
    [root, *_] = Traces().observe(made, parents={(3, 7): PARENT})
    assert (root.trace_id, root.parent_id) == (TRACE, 0xB7AD6B7169203331)
    assert Traces().observe(made, parents={(3, 7): UNSAMPLED}) == []


def test_a_repetition_after_a_crash_makes_the_same_spans():
    made = decided(Outcome.CONFLICT.value)
    first, second = Traces().observe(made), Traces().observe(made)
    assert [span.span_id for span in first] == [span.span_id for span in second]


def test_the_links_of_a_batch_are_bounded():
    many = [decided(Outcome.CONFLICT.value, number=n) for n in range(200)]
    spans = Traces()
    spans.observe(*many)
    assert spans.telemetry.spans is not None
    spans.telemetry.spans.take(10_000)
    spans.traces.observe(AppliedGroup(newly_committed=[Slice(3, 0, 9, ())]), many, {})
    *_, batch = spans.telemetry.spans.take(10_000)
    assert len(batch.links) == 128


def test_durations_are_recorded_with_the_trace_of_a_kept_event():
    scene = Traces()
    scene.observe(decided(Outcome.CONFLICT.value), decided())
    durations = scene.telemetry.meters._durations[DURATION]
    [exemplar] = durations["CONFLICT",].exemplars.values()
    assert exemplar.trace_id == trace_id_of(bet("tx-1", 100).event_id)
    assert not durations["POSTED",].exemplars


def test_headers_of_the_log_are_found_by_place():
    records = [
        SimpleNamespace(offset=4, headers=[("traceparent", PARENT)]),
        SimpleNamespace(offset=5, headers=[]),
        SimpleNamespace(offset=6, headers=[("traceparent", b"x")]),
    ]
    applied = AppliedGroup(newly_committed=[Slice(2, 4, 7, (), records=records)])
    assert find_traceparents(applied) == {(2, 4): PARENT}


def test_a_dead_letter_has_a_span_in_the_trace_of_its_sender_or_of_its_place():
    telemetry = Traces().telemetry
    rejections = [
        SimpleNamespace(
            record=SimpleNamespace(topic="t", partition=0, offset=n, timestamp=5, headers=headers),
            code=RejectCode.BAD_AMOUNT,
            record_index=None,
        )
        for n, headers in enumerate(([("traceparent", PARENT)], []))
    ]
    telemetry.observe_letters(rejections)
    assert telemetry.spans is not None
    first, second = telemetry.spans.take()
    assert first.trace_id == TRACE
    assert second.trace_id == trace_id_of_place("t-0@1")
    assert first.error == second.error == "BAD_AMOUNT"
    assert first.start_ns == 5_000_000


@pytest.mark.parametrize(("count", "room"), [(300, 1_000), (300, 200)])
def test_every_dead_letter_of_a_batch_is_kept_as_far_as_the_queue_has_room(count, room):
    telemetry = Traces().telemetry
    telemetry.spans = SpanQueue(spans_max=room)
    letters: list[Any] = [
        SimpleNamespace(
            record=SimpleNamespace(topic="t", partition=0, offset=n, timestamp=5, headers=[]),
            code=RejectCode.BAD_AMOUNT,
            record_index=None,
        )
        for n in range(count)
    ]
    telemetry.observe_letters(letters)
    counts = {sample.labels[0]: sample.value for sample in telemetry.spans.samples()}
    assert counts == {"kept": count, "dropped": max(0, count - room)}
    assert len(telemetry.spans.take(count)) == min(count, room)


# --- the spans of an alert ---------------------------------------------------------------------------------------------


def alert(*event_ids: str, status=AlertStatus.OPEN) -> FraudAlert:
    return FraudAlert(
        *("alert-1", "D01", 1, "high", "p-1", "p-1", "title", 0, 0, 0, 3, 2, "bets", 0),
        sources=[],
        sample_event_ids=list(event_ids),
        evidence={},
        status=status.value,
    )


def log_record(event=None, *headers, topic="ns.wallet.transactions.v1") -> Any:
    value = b"{}" if event is None else codec.encoder(WalletTransaction)(event)
    at_ms = (0 if event is None else event.appended_at) + 5
    return SimpleNamespace(
        topic=topic, partition=3, offset=7, timestamp=at_ms, headers=headers, value=value
    )


def observe_alert(found: FraudAlert, record) -> list[FinishedSpan]:
    settings = TelemetrySettings(otlp="http://127.0.0.1:1", trace_share=0.0)
    telemetry = WorkerTelemetry("fraud", "fraud-1", settings)
    telemetry.observe_alert(found, record)
    assert telemetry.spans is not None
    return telemetry.spans.take()


@pytest.mark.parametrize("headers", [(), (("traceparent", UNSAMPLED),)], ids=["own", "sender's"])
def test_an_alert_keeps_the_way_of_its_event_up_to_the_log(headers):
    made = decided(Outcome.CONFLICT.value, number=7)
    event = made.log_event.event
    root, *hops, detect = observe_alert(alert("another"), log_record(event, *headers))
    parents = {(3, 7): UNSAMPLED} if headers else {}
    of_ledger, *arrival = Traces().observe(made, parents=parents)[:3]
    assert (root.trace_id, root.span_id, root.parent_id, root.start_ns, root.name) == (
        *(of_ledger.trace_id, of_ledger.span_id, of_ledger.parent_id),
        *(of_ledger.start_ns, of_ledger.name),
    )
    assert root.trace_id == (TRACE if headers else trace_id_of(event.event_id))
    assert hops == arrival, "made by both roles, a hop is one span"
    assert (detect.trace_id, detect.parent_id) == (root.trace_id, root.span_id)
    assert detect.start_ns == hops[-1].end_ns
    assert {one.attributes["pitboss.kept"] for one in (root, detect)} == {"alerted"}
    assert event.player_id
    assert event.player_id not in str([root, *hops, detect])


def test_an_alert_on_a_record_of_another_topic_is_below_its_senders_span():
    parent = ("traceparent", PARENT)
    event_id = "4f2c1a52-8f0e-5a3e-9d64-0c9a1f3f2b11"
    [with_parent] = observe_alert(alert(event_id), log_record(None, parent, topic="n.signals.v1"))
    assert (with_parent.trace_id, with_parent.parent_id) == (TRACE, 0xB7AD6B7169203331)
    [without] = observe_alert(alert(event_id), log_record(topic="n.signals.v1"))
    assert (without.trace_id, without.parent_id) == (trace_id_of(event_id), None)
    [nothing] = observe_alert(alert(), log_record(topic="n.signals.v1"))
    assert nothing.trace_id == trace_id_of_place("n.signals.v1-3@7")


def test_an_alert_that_ends_with_its_rules_is_one_span_and_keeps_no_event():
    ended = alert("x", status=AlertStatus.CLOSED)
    [span] = observe_alert(ended, log_record(bet("tx-1", 100), ("traceparent", PARENT)))
    assert (span.trace_id, span.parent_id) == (TRACE, 0xB7AD6B7169203331)
    assert span.attributes["pitboss.alert_status"] == "CLOSED"


# --- the export -------------------------------------------------------------------------------------------------------


class Collector:
    """Takes OTLP over HTTP, as a collector does, and keeps what it was sent."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: dict[str, list[bytes]] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.bodies.setdefault(self.path, []).append(body)
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pitboss[telemetry]")
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


async def test_a_collector_gets_spans_with_links_and_metrics_with_exemplars(collector):
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    scene = Traces()
    made = decided(Outcome.CONFLICT.value)
    kept = scene.observe(made)
    telemetry = scene.telemetry
    assert telemetry.spans is not None
    for span in kept:
        telemetry.spans.add(span)
    export = create_export(
        telemetry.spans, telemetry.meters, telemetry.resource, collector.url + "/"
    )
    await export.start()
    await export.stop()
    [body] = collector.bodies["/v1/traces"]
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert names["service.name"] == "pitboss-ledger"
    assert names["service.instance.id"] == "ledger-1"
    spans = list(resource.scope_spans[0].spans)
    assert [span.name for span in spans] == [span.name for span in kept]
    trace = uuid.UUID(made.log_event.event.event_id).bytes
    assert {span.trace_id for span in spans[:-1]} == {trace}
    [link] = spans[-1].links
    assert link.trace_id == trace
    [body] = collector.bodies["/v1/metrics"]
    metrics = {
        metric.name: metric
        for one in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in one.scope_metrics
        for metric in scope.metrics
    }
    [point] = metrics[DURATION].histogram.data_points
    [exemplar] = point.exemplars
    assert exemplar.trace_id == trace
    assert exemplar.span_id == spans[0].span_id
    assert "process.cpu.time" in metrics


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(caplog):
    class Away:
        def export(self, _):
            raise OSError("no collector")

    scene = Traces()
    telemetry = scene.telemetry
    assert telemetry.spans is not None
    export = OtlpExport(telemetry.spans, telemetry.meters, telemetry.resource, Away(), Away())
    for _ in range(3):
        telemetry.spans.add(FinishedSpan("a", 1, 2, None, 3, 4))
        await export.export_spans()
    assert telemetry.spans.take() == []
    assert caplog.text.count("the collector did not take them") == 1


async def test_a_collector_that_is_away_is_not_asked_again_for_what_still_waits():
    asked = []

    class Away:
        def export(self, spans):
            asked.append(len(spans))
            return SimpleNamespace(name="FAILURE")

    telemetry = Traces().telemetry
    assert telemetry.spans is not None
    for number in range(BATCH_SPANS + 5):
        telemetry.spans.add(FinishedSpan("a", 1, number, None, 3, 4))
    export = OtlpExport(telemetry.spans, telemetry.meters, telemetry.resource, Away(), Away())
    await export.export_spans()
    assert asked == [BATCH_SPANS]
    assert len(telemetry.spans.take()) == 5


def test_the_queue_drops_the_oldest_and_counts_them():
    queue = SpanQueue(spans_max=2)
    for number in range(5):
        queue.add(FinishedSpan("a", 1, number, None, 3, 4))
    assert [span.span_id for span in queue.take()] == [3, 4]
    assert {sample.labels[0]: sample.value for sample in queue.samples()} == {
        "kept": 5,
        "dropped": 3,
    }


def test_the_settings_of_traces():
    settings = read_telemetry_settings(
        {"PITBOSS_OTLP": "http://127.0.0.1:4318", "PITBOSS_TRACE_SAMPLE": "0.2"}
    )
    assert settings.is_on
    assert (settings.port, settings.trace_share) == (None, 0.2)
    assert not read_telemetry_settings({}).is_on
    for value in ("", "messaging", "http,messaging", "database/dup, gen_ai"):
        assert read_telemetry_settings({**ON, OPT_IN: value}).is_on
    for value in ("messaging/dup", "http, http/dup", "database,messaging/dup"):
        with pytest.raises(UsageError, match=f"{OPT_IN} has '(messaging|http)/dup'"):
            read_telemetry_settings({**ON, OPT_IN: value})
        assert not read_telemetry_settings({OPT_IN: value}).is_on, "telemetry is off"
    with pytest.raises(UsageError, match="PITBOSS_OTLP is '127"):
        read_telemetry_settings({"PITBOSS_OTLP": "127.0.0.1:4318"})
