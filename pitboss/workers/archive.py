"""The archive worker: copies the topics of an installation into files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pitboss.ops.archive_settings import check_target, read_archive_settings
from pitboss.ops.exports import missing_packages
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.app import AppSettings, PitbossApp
from runtime.kafka.app import create_app as create_faust_app
from runtime.telemetry.samples import MetricSample

PASS_EVERY_MAX_S = 30.0
"""A pass asks for the end of every partition; a file may be that much later than its span's end."""
PASS_EVERY_MIN_S = 1.0
RATE = 50_000
"""Records a second at most, so that the first pass over a long log leaves room for the others."""


def create_app(runtime: Runtime, worker: WorkerSettings) -> PitbossApp:
    """Create the app. Raises UsageError where no archive is set or its packages are missing."""
    del worker
    settings = read_archive_settings()
    target = check_target(settings.target)
    with missing_packages("run archive"):
        from replay.archive.archiver import Archiver, PostgresBooks
        from replay.archive.cut import CutRule
        from replay.archive.service import ArchiveService
        from replay.archive.store import open_store
        from replay.log.broker import BrokerLog, list_topics
        from replay.log.pace import ReplayPace
    store = open_store(target)
    opened: list[PostgresBooks] = []

    def connect() -> tuple[Archiver, Callable[[], None]]:
        books = PostgresBooks(runtime.database_url)
        opened[:] = [books]
        broker = BrokerLog(runtime.broker, ReplayPace(RATE))

        def close() -> None:
            broker.close()
            books.close()

        rule = CutRule(span_ms=settings.span_ms)
        return Archiver(broker, store, books, runtime.prefix, rule), close

    def find_topics() -> list[str]:
        return list_topics(runtime.broker, runtime.prefix)

    app = create_faust_app(AppSettings("archive", runtime.broker))
    pause_s = min(PASS_EVERY_MAX_S, max(PASS_EVERY_MIN_S, settings.span_ms / 10_000))
    service = app.supervise(ArchiveService(connect, find_topics, pause_s))

    def samples() -> Iterator[MetricSample]:
        yield MetricSample("pitboss.archive.passes", (), service.passes)
        for books in opened:
            for (topic, partition), offset in books.last_positions.items():
                yield MetricSample("pitboss.archive.position", (topic, str(partition)), offset)

    app.when_observed(lambda telemetry: telemetry.meters.add_source(samples))
    return app
