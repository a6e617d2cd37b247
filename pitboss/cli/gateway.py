"""`pitboss gateway`: what to give each provider, and one call as a provider would make it."""

from __future__ import annotations

import json
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from gateway.decisions.routes import RouteTable, base_path
from gateway.decisions.sessions import PlayerSession, SessionKey
from gateway.settings import PORT_DEFAULT
from pitboss.cli import screen
from pitboss.cli.suggestions import PROVIDER, SuggestingGroup
from pitboss.gateway_settings import DoorSettings, read_gateway_settings
from pitboss.lab_package import requiring_lab
from pitboss.settings import read_settings, read_worker_settings
from schemas.errors import Unavailable, UsageError, suggest
from schemas.money import amount_from_text, minor_units
from streams.providers.house_openapi import make_document
from streams.providers.registry import DIALECTS

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_TIMEOUT_S = 30.0
_COLUMNS = ("provider", "method", "url", "operations", "waits", "patience_ms", "signature")


@click.group(cls=SuggestingGroup)
def gateway() -> None:
    """Show what the gateway serves, and call it as a provider does."""


@gateway.command()
@click.option(
    "--base-url", default="", help="What stands before the paths; by default host and port."
)
@_as_json
def routes(base_url: str, as_json: bool) -> None:
    """Show the URL of every call, to give to each provider.

    A URL is made of the settings: the brands of PITBOSS_GATEWAY_BRANDS and the providers of
    PITBOSS_PROVIDERS. Questions (balances, sessions) have a question mark. Behind them stands for
    how long a call may wait, and how it is signed.
    """
    door, worker = read_gateway_settings(), read_worker_settings()
    names = worker.providers if worker.providers != frozenset({"all"}) else None
    base = base_url.rstrip("/") or _address(door)
    rows: list[dict[str, Any]] = [
        {
            "provider": route.provider,
            "brand": route.brand or "default",
            "region": route.region,
            "method": "POST",
            "url": base + route.path,
            "content_type": route.face.content_type,
            "operations": list(route.call.operations),
            "asks": list(route.call.asks),
            "needs_session": route.call.needs_session,
            "waits": "decision" if route.face.waits else "append",
            "patience_ms": door.patience_ms or route.face.patience_ms,
            "patience_source": route.face.patience_source,
            "signature": ", ".join(route.face.signature_headers) or "in the body",
            "body_bytes_max": route.face.body_bytes_max,
        }
        for route in RouteTable(DIALECTS, names, door.brands).routes
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    table = screen.table(*_COLUMNS)
    for row in rows:
        words = [*row["operations"], *(f"{word}?" for word in row["asks"])]
        shown = {**row, "operations": ", ".join(words)}
        table.add_row(*[str(shown[column]) for column in _COLUMNS])
    screen.show(table)


@gateway.command()
@click.option(
    "--base-url", default="", help="What stands before the paths; by default host and port."
)
def openapi(base_url: str) -> None:
    """Print the OpenAPI document of the house's own API, as JSON.

    Deposits, withdrawals, adjustments, bonuses, player states, and the balance of a player.
    """
    door = read_gateway_settings()
    base = (base_url.rstrip("/") or _address(door)) + base_path(
        "house", next(iter(door.brands), "")
    )
    click.echo(json.dumps(make_document(base), indent=1))


@gateway.command()
@click.argument("player")
@click.option("--currency", required=True, help="Currency of the player's wallet.")
@click.option(
    "--hours", default=24, show_default=True, type=click.IntRange(1, 8_760), help="Until it ends."
)
@_as_json
def session(player: str, currency: str, hours: int, as_json: bool) -> None:
    """Print a session token of a player, as the casino makes one when it starts a game.

    Signed with the key that PITBOSS_GATEWAY_SESSION_KEY_FILE names.
    """
    made = PlayerSession(player, currency.upper(), int(time.time()) + hours * 3600)
    token = _session_key(read_gateway_settings()).make_token(made)
    click.echo(json.dumps({**made._asdict(), "token": token}) if as_json else token)


class _Order(NamedTuple):
    """What the options of `try` say."""

    player: str
    amount: str
    currency: str
    transaction: str
    bet: str
    round: str
    token: str


@gateway.command("try")
@click.argument("provider", type=PROVIDER)
@click.argument("operation")
@click.option("--player", required=True, help="Player that the call is about.")
@click.option("--amount", default="1.00", show_default=True, help="In major units.")
@click.option("--currency", default="EUR", show_default=True)
@click.option("--id", "transaction", default="", help="Transaction id; drawn without it.")
@click.option("--bet", default="", help="Id of the bet that a win or a rollback belongs to.")
@click.option("--round", default="1", show_default=True, help="Id of the round.")
@click.option("--token", default="", help="Session token; made with the session key without it.")
@click.option(
    "--key",
    "key_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON of what the provider signs with, by name; the sandbox's keys without it.",
)
@click.option("--base-url", default="", help="Where the gateway is; by default host and port.")
@click.option("--dry-run", is_flag=True, help="Print the call, and do not make it.")
@_as_json
def try_call(
    provider: str,
    operation: str,
    key_file: Path | None,
    base_url: str,
    dry_run: bool,
    as_json: bool,
    **order: str,
) -> None:
    """Make one call as its provider would, and print it as a line of curl with its answer.

    OPERATION is bet, win, rollback or another verb of the sandbox that the provider knows, or one
    of its questions, as balance (`pitboss gateway routes` shows them). The sandbox's keys are those
    of `pitboss sandbox`; the gateway believes them where its keys file has them (`pitboss sandbox
    keyring`), or has no key of the provider.
    """
    door = read_gateway_settings()
    with requiring_lab("`pitboss gateway try`"):
        request = _sign(provider, operation, _Order(**order), key_file, door)
    base = base_url.rstrip("/") or _address(door)
    url = base + base_path(provider, next(iter(door.brands), "")) + request.path
    headers = {"content-type": request.content_type, **dict(request.headers)}
    curl = _curl_line(url, headers, request.body)
    answer = None if dry_run else _post(url, headers, request.body)
    if as_json:
        click.echo(json.dumps({"curl": curl, "answer": answer}))
        return
    click.echo(curl)
    if answer is not None:
        click.echo(f"{answer['status']} {answer['content_type']} {answer['body']}")


def _sign(
    provider: str, operation: str, order: _Order, key_file: Path | None, door: DoorSettings
) -> Any:
    from lab.conformance.calls import CallOrder, make_intent, make_request
    from lab.conformance.intents import Verb
    from lab.conformance.questions import questions_of
    from lab.conformance.writers.find import find_writers
    from lab.conformance.writers.ids import Ids
    from lab.conformance.writers.writer import Sending

    face, writer = DIALECTS[provider].face, find_writers((provider,)).get(provider)
    if face is None:
        raise UsageError(f"{provider} is not called over HTTP: its adapter has no `face`")
    if writer is None:
        raise UsageError(f"{provider} has no writer, so no call can be made as it makes them")
    if operation in questions_of(face):
        return _sign_question(provider, operation, order, key_file, door)
    verbs = {verb.value: verb for verb in writer.says}
    if operation not in verbs:
        known = ", ".join([*sorted(verbs), *questions_of(face)])
        raise UsageError(
            f"{provider} does not know {operation!r}{suggest(operation, verbs)}; it knows {known}"
        )
    verb, now_ms = verbs[operation], time.time_ns() // 1_000_000
    from random import SystemRandom

    ids = Ids(SystemRandom())
    minor = minor_units(amount_from_text(order.amount), order.currency)
    bet_id = order.bet
    shares_id = verb in writer.verbs_with_the_bets_id and bet_id
    tx_id = order.transaction or (bet_id if shares_id else writer.draw_id(ids, verb, now_ms))
    token = order.token or _make_token(order, face.session_token is not None, door)
    call = CallOrder(
        verb, order.player, tx_id, minor, order.currency, order.round, bet_id, token=token,
        at_ms=now_ms, win_minor=0 if verb is not Verb.WIN else minor,
    )  # fmt: skip
    secrets = _secrets_of(provider, key_file)
    sending = Sending(now_ms, SystemRandom().getrandbits(128))
    try:
        return make_request(writer, face, make_intent(writer, call), sending, secrets)
    except (AssertionError, ValueError, KeyError, AttributeError) as error:
        raise UsageError(f"no {operation} of {provider} can be written so: {error}") from error


def _sign_question(
    provider: str, word: str, order: _Order, key_file: Path | None, door: DoorSettings
) -> Any:
    from random import SystemRandom

    from lab.conformance.questions import QuestionOrder, make_question

    face = DIALECTS[provider].face
    assert face is not None
    token = order.token or _make_token(order, door.session_key is not None, door)
    at_ms, nonce = time.time_ns() // 1_000_000, SystemRandom().getrandbits(128)
    asks = QuestionOrder(word, order.player, order.currency, token, at_ms, nonce)
    return make_question(provider, face, asks, _secrets_of(provider, key_file))


def _make_token(order: _Order, is_needed: bool, door: DoorSettings) -> str:
    if not is_needed or door.session_key is None:
        return "none"
    ends_s = int(time.time()) + 3600
    key = SessionKey(door.session_key)
    return key.make_token(PlayerSession(order.player, order.currency, ends_s))


def _secrets_of(provider: str, key_file: Path | None) -> Mapping[str, str]:
    if key_file is not None:
        try:
            secrets = json.loads(key_file.read_bytes())
        except ValueError as error:
            raise UsageError(f"--key {key_file} is not JSON: {error}") from error
        if not isinstance(secrets, dict):
            raise UsageError(f"--key {key_file}: expected an object, as the sandbox's keys have")
        own: Mapping[str, str] = secrets.get(provider, secrets)
        return own
    from lab.sandbox.keys import SandboxKeys

    file = read_settings().home / "sandbox-keys.json"
    if not file.exists():
        raise UsageError(
            f"there are no sandbox keys at {file}: `pitboss sandbox keyring --out FILE` makes "
            "them, or give --key"
        )
    return SandboxKeys.load(file).of(provider)


def _session_key(door: DoorSettings) -> SessionKey:
    if door.session_key is None:
        raise UsageError(
            "no session key: `openssl rand -hex 32 > FILE`, and name the file in "
            "PITBOSS_GATEWAY_SESSION_KEY_FILE, here and for the gateway"
        )
    return SessionKey(door.session_key)


def _address(door: DoorSettings) -> str:
    scheme = "http" if door.tls is None else "https"
    return f"{scheme}://{door.host}:{PORT_DEFAULT if door.port is None else door.port}"


def _curl_line(url: str, headers: Mapping[str, str], body: bytes) -> str:
    parts = ["curl", "-sS", url]
    for name, text in headers.items():
        parts += ["-H", f"{name}: {text}"]
    try:
        parts += ["--data-binary", body.decode()]
    except UnicodeDecodeError:
        return f"echo {body.hex()} | xxd -r -p | {shlex.join([*parts, '--data-binary', '@-'])}"
    return shlex.join(parts)


def _post(url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url} is not a URL of HTTP")
    request = urllib.request.Request(url, body, dict(headers), method="POST")  # noqa: S310 - checked
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310 - checked
            return _describe(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return _describe(error.code, error.headers, error.read())
    except OSError as error:
        raise Unavailable(f"no gateway answers at {url}: {error}; `pitboss run gateway`") from error


def _describe(status: int, headers: Any, body: bytes) -> dict[str, Any]:
    text = body.decode() if body.isascii() else body.hex()
    return {"status": status, "content_type": headers["content-type"], "body": text}
