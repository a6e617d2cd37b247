"""The wallet that users write today: FastAPI, uvicorn, a pool of psycopg, one transaction a bet.

The same signature check as ours, an idempotency table, `FOR UPDATE` on the wallet, and
`synchronous_commit=on`. Runs in an environment of its own, which has FastAPI beside our code.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing import Process
from typing import Any, Final

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from psycopg_pool import AsyncConnectionPool

from lab.bench.gateway import GatewayPeerSettings
from streams.providers.signatures import RsaSha256


class _Bet(msgspec.Struct, frozen=True):
    user: str
    transaction_uuid: str
    request_uuid: str
    amount: int
    currency: str


_BODY: Final = msgspec.json.Decoder(_Bet)


def create_app(settings: GatewayPeerSettings) -> FastAPI:
    """Create the app of one process."""
    matches = RsaSha256(settings.public_key_pem).matches
    pool = AsyncConnectionPool(
        settings.database_url,
        min_size=settings.pool_size,
        max_size=settings.pool_size,
        open=False,
        kwargs={"options": "-c synchronous_commit=on"},
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/transaction/bet")  # type: ignore[untyped-decorator] # FastAPI is in no environment of ours
    async def book(request: Request) -> Response:
        body = await request.body()
        signature = request.headers.get("x-hub88-signature", "").encode()
        if not matches(body, signature):
            return _answer({"status": "RS_ERROR_INVALID_SIGNATURE"})
        bet = _BODY.decode(body)
        async with pool.connection() as connection:
            status, balance = await _book(connection, bet)
        return _answer(
            {
                "user": bet.user,
                "status": status,
                "request_uuid": bet.request_uuid,
                "currency": bet.currency,
                "balance": balance,
            }
        )

    return app


async def _book(connection: Any, bet: _Bet) -> tuple[str, int]:
    """Book a bet in the transaction of its connection, and return status and balance."""
    found = await (
        await connection.execute(
            "SELECT units FROM wallet WHERE player = %s AND currency = %s FOR UPDATE",
            (bet.user, bet.currency),
        )
    ).fetchone()
    units = 0 if found is None else found[0]
    before = await (
        await connection.execute(
            "SELECT status, balance FROM bet WHERE id = %s", (bet.transaction_uuid,)
        )
    ).fetchone()
    if before is not None:
        return before[0], before[1]
    is_covered = units >= bet.amount
    status = "RS_OK" if is_covered else "RS_ERROR_NOT_ENOUGH_MONEY"
    balance = units - bet.amount if is_covered else units
    if is_covered:
        await connection.execute(
            "UPDATE wallet SET units = %s WHERE player = %s AND currency = %s",
            (balance, bet.user, bet.currency),
        )
    await connection.execute(
        "INSERT INTO bet (id, player, units, status, balance) VALUES (%s, %s, %s, %s, %s)",
        (bet.transaction_uuid, bet.user, bet.amount, status, balance),
    )
    return status, balance


def _answer(fields: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(fields), media_type="application/json")


def serve(settings: GatewayPeerSettings) -> None:
    """Serve in this process, on the port that all processes share."""
    listener = socket.create_server(("127.0.0.1", settings.port), reuse_port=True, backlog=1_024)
    config = uvicorn.Config(create_app(settings), access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


def main(text: str) -> None:
    """Serve with so many processes until SIGTERM; `text` are the settings as JSON."""
    settings = msgspec.json.decode(text, type=GatewayPeerSettings)
    for _ in range(settings.processes - 1):
        Process(target=serve, args=(settings,), daemon=True).start()
    serve(settings)


if __name__ == "__main__":
    main(sys.argv[1])
