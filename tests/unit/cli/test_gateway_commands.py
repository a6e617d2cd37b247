"""`pitboss gateway`: URLs for providers, and calls as they make them."""

from __future__ import annotations

import json
import shlex
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from gateway.calls import now_ms
from gateway.decisions.reading import Received, read_call
from gateway.decisions.routes import RouteTable
from gateway.decisions.sessions import SessionKey
from gateway.questions import make_record
from lab.conformance.questions import questions_of
from lab.sandbox.keys import SandboxKeys
from pitboss.cli.main import cli
from streams.providers.answers import Answers
from streams.providers.keyring import question_reader_of
from streams.providers.registry import DIALECTS
from tests.unit.gateway.scene import SECRETS

BETS = {
    "hub88": "bet",
    "hundredhp": "bet",
    "microgaming": "bet",
    "pgsoft": "spin",
    "playngo": "bet",
    "pragmatic": "bet",
    "skylift": "bet",
}
KEY_HEX = bytes(range(32)).hex()


@pytest.fixture
def home(tmp_path, monkeypatch):
    keys = SandboxKeys({name: dict(secrets) for name, secrets in SECRETS.items()}).complete()
    keys.save(tmp_path / "sandbox-keys.json")
    (tmp_path / "session-key").write_text(KEY_HEX)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    monkeypatch.setenv("PITBOSS_GATEWAY_SESSION_KEY_FILE", str(tmp_path / "session-key"))
    return keys


def pitboss(*arguments: str):
    return CliRunner().invoke(cli, ["gateway", *arguments])


def test_routes_are_those_of_the_settings(monkeypatch):
    monkeypatch.setenv("PITBOSS_PROVIDERS", "hub88,camt")
    monkeypatch.setenv("PITBOSS_GATEWAY_BRANDS", "lucky:eu,star")
    monkeypatch.setenv("PITBOSS_GATEWAY_PORT", "9000")
    rows = json.loads(pitboss("routes", "--json").output)
    assert {row["url"] for row in rows} == {
        f"http://127.0.0.1:9000/brand/{brand}/hub88{path}"
        for brand in ("lucky", "star")
        for path in (
            *("/transaction/bet", "/transaction/win", "/transaction/rollback"),
            *("/user/info", "/user/balance"),
        )
    }
    assert {word for row in rows for word in row["asks"]} == {"info", "balance"}
    assert {row["region"] for row in rows if row["brand"] == "lucky"} == {"eu"}
    assert {row["signature"] for row in rows} == {"x-hub88-signature"}
    shown = pitboss("routes", "--base-url", "https://wallet.example/")
    assert "https://wallet.example/brand/star/hub88/transaction/win" in shown.output


@pytest.mark.parametrize(
    ("brands", "message"),
    [("Lucky", "is not a brand"), ("a/b", "is not a brand"), ("lucky:eu,lucky:uk", "each once")],
)
def test_a_brand_that_cannot_be_a_url_is_refused(monkeypatch, brands, message):
    monkeypatch.setenv("PITBOSS_GATEWAY_BRANDS", brands)
    result = pitboss("routes")
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("provider", BETS)
def test_a_call_is_signed_as_its_provider_signs(home, provider):
    result = pitboss("try", provider, BETS[provider], "--player", "p-1", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output)
    assert shown["answer"] is None
    path, headers, body = parse_curl(shown["curl"])
    route = RouteTable(DIALECTS).find(path)
    assert route is not None
    received = Received("POST", "", headers["content-type"], headers, body, now_ms())
    call = read_call(
        route,
        received,
        Answers(DIALECTS, home.keyring()),
        SessionKey(bytes.fromhex(KEY_HEX)).read_token,
        "gateway",
    )
    assert call.refusal is None
    assert call.is_decided
    assert call.record.key == b"p-1"


@pytest.mark.parametrize(
    ("provider", "word"),
    [
        (provider, word)
        for provider in sorted(DIALECTS)
        for word in questions_of(DIALECTS[provider].face)
    ],
)
def test_a_question_is_signed_as_its_provider_signs(home, provider, word):
    result = pitboss("try", provider, word, "--player", "p-1", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    path, headers, body = parse_curl(json.loads(result.output)["curl"])
    route = RouteTable(DIALECTS).find(path)
    assert route is not None
    received = Received("POST", "", headers["content-type"], headers, body, now_ms())
    record = make_record(route, received)
    read = question_reader_of(DIALECTS[provider], home.keyring().get(provider))
    [question] = read(record, dict(record.headers))
    assert question.word == word
    session = SessionKey(bytes.fromhex(KEY_HEX)).read_token(question.token or "")
    assert question.player_id == "p-1" or (session is not None and session.player == "p-1")


@pytest.mark.parametrize("is_by_provider", [True, False])
@pytest.mark.parametrize("call", ["bet", "balance"])
def test_a_key_file_signs_in_place_of_the_sandboxs_keys(home, tmp_path, call, is_by_provider):
    own = {"secret": "own-" * 8}
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"hundredhp": own} if is_by_provider else own))
    options = ["--player", "p-1", "--key", str(file), "--dry-run", "--json"]
    result = pitboss("try", "hundredhp", call, *options)
    assert result.exit_code == 0, result.output
    _, _, body = parse_curl(json.loads(result.output)["curl"])
    assert json.loads(body)["secret"] == own["secret"]
    file.write_text("geheim")
    refused = pitboss("try", "hundredhp", call, *options)
    assert (refused.exit_code, "geheim" in refused.output) == (2, False)


def test_the_openapi_document_has_the_urls_of_the_settings(monkeypatch):
    monkeypatch.setenv("PITBOSS_GATEWAY_TLS_CERT", "/c.pem")
    monkeypatch.setenv("PITBOSS_GATEWAY_TLS_KEY", "/c.key")
    monkeypatch.setenv("PITBOSS_GATEWAY_BRANDS", "lucky")
    document = json.loads(pitboss("openapi").output)
    assert document["servers"] == [{"url": "https://127.0.0.1:8088/brand/lucky/house"}]
    paths = {route.path.removeprefix("/house") for route in RouteTable(DIALECTS, {"house"}).routes}
    assert set(document["paths"]) == paths
    other = json.loads(pitboss("openapi", "--base-url", "https://wallet.example/").output)
    assert other["servers"][0]["url"] == "https://wallet.example/brand/lucky/house"


def parse_curl(line: str) -> tuple[str, dict[str, str], bytes]:
    words = shlex.split(line)
    body = bytes.fromhex(words[1]) if words[0] == "echo" else words[-1].encode()
    url = next(word for word in words if word.startswith("http://127.0.0.1:8088"))
    named = [words[index + 1] for index, word in enumerate(words) if word == "-H"]
    headers = dict(text.split(": ", 1) for text in named)
    return url.removeprefix("http://127.0.0.1:8088"), headers, body


@pytest.mark.parametrize("provider", sorted(BETS.keys() - {"pgsoft"}))  # its spins are both in one
@pytest.mark.parametrize("verb", ["win", "rollback"])
def test_a_win_and_a_rollback_name_their_bet(home, provider, verb):
    result = pitboss("try", provider, verb, "--player", "p-1", "--bet", "77", "--dry-run", "--json")
    assert result.exit_code == 0, result.output


def test_the_answer_is_printed(home):
    class Door(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(702)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"path": self.path, "bytes": len(body)}).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    result = pitboss("try", "hundredhp", "bet", "--player", "p-1", "--base-url", base)
    thread.join()
    server.server_close()
    curl, answer = result.output.splitlines()
    assert shlex.split(curl)[2] == f"{base}/hundredhp/withdrawal"
    assert answer.startswith('702 application/json {"path": "/hundredhp/withdrawal"')


def test_what_a_provider_does_not_know_is_named(home):
    result = pitboss("try", "playngo", "wim", "--player", "p-1", "--dry-run")
    assert result.exit_code == 2
    assert "did you mean 'win'?" in result.output
    assert pitboss("try", "camt", "bet", "--player", "p").exit_code == 2


def test_a_session_is_the_players(home):
    shown = json.loads(pitboss("session", "p-1", "--currency", "eur", "--json").output)
    session = SessionKey(bytes.fromhex(KEY_HEX)).read_token(shown["token"])
    assert session is not None
    assert (session.player, session.currency) == ("p-1", "EUR")


def test_without_a_session_key_there_is_a_way_out(monkeypatch):
    monkeypatch.delenv("PITBOSS_GATEWAY_SESSION_KEY_FILE", raising=False)
    result = pitboss("session", "p-1", "--currency", "EUR")
    assert result.exit_code == 2
    assert "openssl rand -hex 32" in result.output


def test_a_session_key_that_is_not_hexadecimal_is_not_shown(tmp_path, monkeypatch):
    file = tmp_path / "key"
    file.write_text("geheim")
    monkeypatch.setenv("PITBOSS_GATEWAY_SESSION_KEY_FILE", str(file))
    result = pitboss("session", "p-1", "--currency", "EUR")
    assert result.exit_code == 2
    assert "geheim" not in result.output
