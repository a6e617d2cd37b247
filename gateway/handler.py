"""The gateway's app: a server, an appender of raw records, and a reader of outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.appender import RawAppender
from gateway.attempts import Attempts
from gateway.call_traces import CallTraces
from gateway.calls import CallDesk
from gateway.decisions.reading import FindSession
from gateway.decisions.routes import RouteTable
from gateway.decisions.sessions import PlayerSession, SessionKey
from gateway.files import FileReader, FileSource, find_sources
from gateway.outcomes import OutcomeReader
from gateway.questions import AnsweredVersions, PlayerSource, QuestionDesk
from gateway.server import GatewayServer
from gateway.settings import GatewaySettings
from gateway.stats import GatewayStats, GatewayStatsLogger
from runtime.kafka.app import AppSettings, PitbossApp, create_app
from schemas.topics import OUTCOMES, qualified_name
from streams.providers.answers import Answers
from streams.providers.keyring import check_keyring
from streams.providers.registry import DIALECTS, Dialects

if TYPE_CHECKING:
    from runtime.telemetry.worker import WorkerTelemetry

NAME: Final = "gateway"


@dataclass(frozen=True)
class Gateway:
    """A composed gateway: the app to run, and what tests and telemetry look at."""

    app: PitbossApp
    server: GatewayServer
    appender: RawAppender
    attempts: Attempts
    stats: GatewayStats


def create_gateway(
    settings: GatewaySettings,
    dialects: Dialects = DIALECTS,
    players: PlayerSource | None = None,
) -> Gateway:
    """Compose a gateway; nothing is connected or started.

    Questions are answered from `players`; without them each gets its provider's error.

    Raises UsageError for keys that cannot be used, and where no provider is to be served.
    """
    check_keyring(settings.keyring, dialects, "the keys file")
    table = RouteTable(
        dialects, settings.providers, settings.brands, settings.namespace, settings.currency
    )
    name = qualified_name(NAME, settings.namespace)
    app = create_app(AppSettings(name, settings.broker))
    stats, attempts = GatewayStats(), Attempts()
    app.supervise(GatewayStatsLogger(stats))
    app.when_observed(lambda telemetry: telemetry.meters.add_source(stats.samples))
    sources = _file_sources(settings, dialects)
    topics = {*table.topics, *(source.topic for source in sources)}
    appender = app.supervise(RawAppender(settings.broker, name, topics))
    app.when_observed(lambda telemetry: telemetry.meters.add_source(appender.samples))
    if sources:
        app.supervise(FileReader(sources, appender, settings.connector))
    app.supervise(
        OutcomeReader(
            settings.broker,
            name,
            qualified_name(OUTCOMES, settings.namespace),
            attempts.deliver,
        )
    )
    find_session, versions = _session_finder(settings.session_key), AnsweredVersions()
    desk = CallDesk(
        settings,
        dialects,
        Answers(dialects, settings.keyring),
        appender,
        attempts,
        stats,
        find_session,
        table.faces,
        QuestionDesk(dialects, settings.keyring, players, versions, stats, find_session),
        versions,
    )
    # The last to start and the first to stop: its calls need all the others.
    server = app.supervise(GatewayServer(settings, table, desk, stats))
    app.when_observed(lambda telemetry: _observe_answers(server, telemetry))
    return Gateway(app, server, appender, attempts, stats)


def _file_sources(settings: GatewaySettings, dialects: Dialects) -> list[FileSource]:
    if settings.files_folder is None:
        return []
    return find_sources(
        settings.files_folder,
        dialects,
        settings.providers,
        settings.brands,
        settings.namespace,
    )


def _observe_answers(server: GatewayServer, telemetry: WorkerTelemetry) -> None:
    record = telemetry.meters.record

    def observe(provider: str, status: int, seconds: float) -> None:
        record("http.server.request.duration", (provider, str(status)), seconds)

    server.on_answered = observe
    if telemetry.spans is not None:
        server.traces = CallTraces(telemetry.spans, telemetry.settings.trace_share)


def _find_none(_: str) -> PlayerSession | None:
    return None


def _session_finder(key: bytes | None) -> FindSession:
    return _find_none if key is None else SessionKey(key).read_token
