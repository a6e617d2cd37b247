"""HTTP server of the registry view, on loopback only: for local clients and tests."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from pitboss.schema_registry.view import RegistryError, RegistryView
from schemas.errors import UsageError

CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"
BODY_MAX_BYTES: Final = 1_000_000

_View = Callable[[web.Request], Any]


def create_server(view: RegistryView) -> web.Application:
    """Create the routes of the read API; any write is refused with 42205."""
    app = web.Application(middlewares=[_errors], client_max_size=BODY_MAX_BYTES)
    for path, answer in _views(view).items():
        app.router.add_get(path, _answering(answer))

    async def find(request: web.Request) -> web.Response:
        return _json(view.find(_subject(request), await _schema_text(request)))

    app.router.add_post("/subjects/{subject}", find)
    for method in ("POST", "PUT", "DELETE"):
        app.router.add_route(method, "/{anything:.*}", _refuse)
    # Not 405: a 404 tells Confluent's newer clients that a registry has no associations, and they
    # continue without them.
    app.router.add_get("/{anything:.*}", _not_found)
    return app


def _views(view: RegistryView) -> dict[str, _View]:
    return {
        "/": lambda _: {},
        "/subjects": lambda request: view.subjects(
            request.query.get("subjectPrefix", "").removeprefix(":*:")
        ),
        "/subjects/{subject}/versions": lambda request: view.versions(_subject(request)),
        "/subjects/{subject}/versions/{version}": lambda request: view.version(
            _subject(request), request.match_info["version"]
        ),
        "/subjects/{subject}/versions/{version}/schema": lambda request: view.schema_of_version(
            _subject(request), request.match_info["version"]
        ),
        r"/schemas/ids/{id:\d{1,10}}": lambda request: view.by_id(_id(request)),
        r"/schemas/ids/{id:\d{1,10}}/schema": lambda request: view.schema_by_id(_id(request)),
        r"/schemas/ids/{id:\d{1,10}}/versions": lambda request: view.locations(_id(request)),
        r"/schemas/ids/{id:\d{1,10}}/subjects": lambda request: [
            place["subject"] for place in view.locations(_id(request))
        ],
        "/schemas/types": lambda _: ["AVRO"],
        "/config": lambda _: view.config(),
        "/config/{subject}": lambda request: view.config(_subject(request)),
        "/mode": lambda _: view.mode(),
        "/mode/{subject}": lambda request: view.mode(_subject(request)),
    }


def _answering(answer: _View) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return _json(answer(request))

    return handle


def _subject(request: web.Request) -> str:
    return request.match_info["subject"]


def _id(request: web.Request) -> int:
    return int(request.match_info["id"])


@asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Serve while the block lasts; gives the URL. Port 0 takes a free one.

    Raises UsageError for an address that is not loopback, or one that is taken.
    """
    if not _is_loopback(host):
        raise UsageError(
            f"{host} is not a loopback address: "
            "a registry for other machines is a server of its own"
        )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host}:{port}: {error.strerror}; take another --port"
            ) from error
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
    finally:
        await runner.cleanup()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _schema_text(request: web.Request) -> str:
    try:
        return str((await request.json())["schema"])
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError):
        raise RegistryError(422, 42201, "Invalid schema") from None


async def _not_found(request: web.Request) -> web.Response:
    raise RegistryError(404, 404, f"HTTP 404 Not Found: {request.path}")


async def _refuse(request: web.Request) -> web.Response:
    del request
    raise RegistryError(
        422, 42205, "This registry is in read-only mode: its schemas are files of a release"
    )


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except RegistryError as error:
        return _json({"error_code": error.error_code, "message": str(error)}, error.status)
    except web.HTTPException as error:
        return _json({"error_code": error.status, "message": error.reason}, error.status)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type=CONTENT_TYPE)
