"""The peer: bet velocity alone as a Faust windowed table, written as in Faust's documentation.

Default settings throughout; only the web server is off, whose port may be taken. A record is read
by our decoder, so the difference is the table. Windows of 60 s that begin every `step_s` seconds:
with a step of one second it gives D01's answer, with 60 (a tumbling window) it misses bursts across
a border.
"""

from __future__ import annotations

import sys
from typing import Any

import faust
import msgspec

from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import Kind, WalletTransaction

WINDOW_S = 60.0
THRESHOLD = 500


class FaustVelocitySettings(msgspec.Struct, frozen=True):
    """The one argument of this process, as JSON."""

    broker: BrokerAddress
    app_id: str
    source: str
    alerts: str
    partitions: int
    step_s: float
    data_folder: str


def create_app(settings: FaustVelocitySettings) -> faust.App:
    """Build an app with one agent and one table: bet in, count up, alert out."""
    app = faust.App(
        settings.app_id,
        **settings.broker.faust_options(),
        topic_partitions=settings.partitions,
        datadir=settings.data_folder,
        web_enabled=False,
        autodiscover=False,
    )
    source = app.topic(settings.source, key_serializer="raw", value_serializer="raw")
    alerts = app.topic(settings.alerts, key_serializer="raw", value_serializer="raw")
    counts = app.Table("bets", default=int, partitions=settings.partitions).hopping(
        WINDOW_S, settings.step_s, expires=300.0
    )
    decode = codec.decoder(WalletTransaction)

    async def count(stream: Any) -> None:
        async for event in stream.events():
            transaction = decode(event.message.value)
            if not any(leg.kind == Kind.BET for leg in transaction.legs):
                continue
            key = f"{transaction.brand}:{transaction.player_id}"
            counts[key] += 1
            if counts[key].value() == THRESHOLD:
                await alerts.send(key=key.encode(), value=b"500 bets within 60 s")

    app.agent(source, name="velocity.count")(count)
    return app


def main(argument: str) -> None:
    """Run the peer until it is terminated."""
    app = create_app(msgspec.json.decode(argument, type=FaustVelocitySettings))
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1])
