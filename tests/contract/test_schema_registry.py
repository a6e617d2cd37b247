"""Our schemas as a Confluent-compatible registry has them: read by Confluent's own client, imported into a stand-in.

The stand-in keeps Confluent's rules for IMPORT mode as its API reference has them. It is not Confluent's registry:
`register` has not been tested with a real one.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from click.testing import CliRunner, Result
from confluent_kafka.schema_registry import Schema as ConfluentSchema
from confluent_kafka.schema_registry import SchemaRegistryClient, SchemaRegistryError
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import pitboss.cli.schemas
from pitboss.cli.main import cli
from pitboss.schema_registry.server import create_server, serve
from pitboss.schema_registry.view import RegistryView, subject_versions
from schemas import codec
from schemas.compatibility import checksum
from schemas.errors import UsageError
from schemas.events import Position, WalletBalance
from schemas.registry import Registry, Schema, released_registry
from schemas.topics import catalogue
from tests.acceptance.documented import ROOT

SUBJECTS = subject_versions(released_registry(), catalogue(["hub88"]), "")
BALANCES = "wallet.balances.v1-value"


def in_thread(app: web.Application) -> Iterator[str]:
    """A server while the test runs, for clients that block."""
    started, stop, urls = threading.Event(), asyncio.Event(), []
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with serve(app, "127.0.0.1", 0) as url:
            urls.append(url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert started.wait(60)
    yield urls[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    yield from in_thread(create_server(RegistryView(SUBJECTS)))


@pytest.fixture
def client(url: str) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": url}) as made:
        yield made


def ask(url: str, path: str, method: str = "GET", body: Any = None) -> tuple[int, Any, str]:
    async def once() -> tuple[int, Any, str]:
        async with (
            ClientSession() as session,
            session.request(method, url + path, json=body) as answer,
        ):
            return answer.status, await answer.json(content_type=None), answer.content_type

    return asyncio.run(once())


# --- Confluent's client -----------------------------------------------------------------------------------------------


def test_confluents_deserialiser_reads_wallet_balances_through_it(client):
    golden = json.loads((ROOT / "schemas" / "golden" / "wallet-balance.v1.json").read_text())
    read = AvroDeserializer(client)
    context = SerializationContext("wallet.balances.v1", MessageField.VALUE)
    assert golden["examples"]
    for example in golden["examples"]:
        assert read(bytes.fromhex(example["value_hex"]), context) == example["event"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "schemas" / "golden").glob("*.json")), ids=lambda path: path.stem
)
def test_confluents_deserialiser_reads_every_record_of_ours(client, path: Path):
    golden = json.loads(path.read_text())
    for example in golden["examples"]:
        value = bytes.fromhex(example["value_hex"])
        read = AvroDeserializer(client)(value, SerializationContext("any", MessageField.VALUE))
        assert msgspec.to_builtins(read).keys() == example["event"].keys()


def test_confluents_serialiser_writes_our_bytes_when_it_may_not_register(client):
    balance = WalletBalance(
        "p", "EUR", 2, 100, 90, 10, 5, 7, "e", Position("wallet.transactions.v1", 3, 9)
    )
    schema = json.dumps(released_registry().get("wallet-balance", 1).json)
    write = AvroSerializer(client, schema, conf={"auto.register.schemas": False})
    context = SerializationContext("wallet.balances.v1", MessageField.VALUE)
    assert write(msgspec.to_builtins(balance), context) == codec.encoder(WalletBalance)(balance)


def test_confluents_client_finds_its_way_around(client):
    assert BALANCES in client.get_subjects()
    assert "wallet-balance" in client.get_subjects()
    assert client.get_versions("player-event") == [1, 2]
    latest = client.get_latest_version("player-event")
    assert (latest.version, latest.schema_id) == (2, released_registry().latest("player-event").id)
    assert client.get_compatibility() == "FULL_TRANSITIVE"
    with pytest.raises(SchemaRegistryError) as missing:
        client.get_version("player-event", 9)
    assert (missing.value.http_status_code, missing.value.error_code) == (404, 40402)
    with pytest.raises(SchemaRegistryError) as refused:
        client.register_schema("new", ConfluentSchema('"string"', "AVRO"))
    assert refused.value.error_code == 42205


# --- the API itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", list(released_registry()), ids=lambda schema: schema.name)
def test_every_schema_stands_under_its_id_and_its_subject(url, schema):
    for path in (
        f"/subjects/{schema.subject}/versions/{schema.version}",
        f"/schemas/ids/{schema.id}",
    ):
        status, body, content_type = ask(url, path)
        assert (status, content_type) == (200, "application/vnd.schemaregistry.v1+json")
        assert json.loads(body["schema"]) == schema.json
    assert ask(url, f"/schemas/ids/{schema.id}/schema")[1] == schema.json
    assert (
        ask(url, f"/subjects/{schema.subject}/versions/{schema.version}/schema")[1] == schema.json
    )
    places = ask(url, f"/schemas/ids/{schema.id}/versions")[1]
    assert {"subject": schema.subject, "version": schema.version} in places
    assert ask(url, f"/schemas/ids/{schema.id}/subjects")[1] == [
        place["subject"] for place in places
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/subjects/none/versions", None, 404, 40401),
        ("GET", "/subjects/none/versions/1", None, 404, 40401),
        ("GET", "/subjects/wallet-balance/versions/99", None, 404, 40402),
        ("GET", "/subjects/wallet-balance/versions/0", None, 422, 42202),
        ("GET", "/subjects/wallet-balance/versions/first", None, 422, 42202),
        ("GET", "/subjects/wallet-balance/versions/1", None, 200, None),
        ("GET", "/schemas/ids/1", None, 404, 40403),
        ("GET", "/schemas/ids/1/versions", None, 404, 40403),
        ("GET", "/schemas/ids/one", None, 404, 404),
        ("GET", "/config/none", None, 404, 40401),
        ("GET", "/mode/none", None, 404, 40401),
        ("POST", "/subjects/wallet-balance", {"schema": '"string"'}, 404, 40403),
        ("POST", "/subjects/wallet-balance", {"schema": "{"}, 422, 42201),
        ("POST", "/subjects/wallet-balance", {}, 422, 42201),
        ("POST", "/subjects/wallet-balance", [], 422, 42201),
        ("POST", "/subjects/none", {"schema": "{}"}, 404, 40401),
        ("POST", "/subjects/wallet-balance/versions", {"schema": "{}"}, 422, 42205),
        ("PUT", "/mode", {"mode": "IMPORT"}, 422, 42205),
        ("DELETE", "/subjects/wallet-balance", None, 422, 42205),
        ("GET", "/nowhere", None, 404, 404),
    ],
)
def test_errors_are_those_of_the_api(url, method, path, body, status, code):
    answered, body_read, _ = ask(url, path, method, body)
    assert answered == status
    assert (body_read.get("error_code") if isinstance(body_read, dict) else None) == code


def test_the_small_answers(url):
    assert ask(url, "/")[1] == {}
    assert ask(url, "/mode")[1] == ask(url, "/mode/wallet-balance")[1] == {"mode": "READONLY"}
    assert ask(url, "/config/wallet-balance")[1] == {"compatibilityLevel": "FULL_TRANSITIVE"}
    assert ask(url, "/schemas/types")[1] == ["AVRO"]
    assert ask(url, "/subjects?subjectPrefix=wallet.balances")[1] == [BALANCES]
    assert (
        ask(url, f"/subjects/{BALANCES}/versions/latest")[1]["id"]
        == released_registry().latest("wallet-balance").id
    )


def test_topics_of_a_namespace_are_subjects_of_that_namespace():
    subjects = subject_versions(released_registry(), catalogue(["hub88"]), "trial")
    assert "trial.wallet.balances.v1-value" in subjects
    assert "trial.provider.hub88.raw.v1.dlt-value" in subjects
    assert "trial.provider.hub88.raw.v1-value" not in subjects  # its bytes are the provider's
    assert "wallet-balance" in subjects


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_it_serves_only_this_machine(host):
    result = CliRunner().invoke(cli, ["schemas", "serve", "--host", host])
    assert result.exit_code == 2
    assert "loopback" in result.stderr


def test_a_port_that_is_taken_is_named(url):
    async def again() -> None:
        async with serve(
            create_server(RegistryView(SUBJECTS)), "127.0.0.1", int(url.rpartition(":")[2])
        ):
            pass

    with pytest.raises(UsageError, match="--port"):
        asyncio.run(again())


# --- register ---------------------------------------------------------------------------------------------------------


class StandIn:
    """A registry in memory with the rules that importing has to do with."""

    def __init__(self) -> None:
        self.subjects: dict[str, dict[int, int]] = {}
        self.texts: dict[int, str] = {}
        self.modes: dict[str, str] = {}
        self.config: dict[str, str] = {}
        self.writes = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/subjects/{subject}/versions/{version}", self._version)
        app.router.add_get("/schemas/ids/{id}", self._by_id)
        app.router.add_get("/mode/{subject}", self._mode)
        app.router.add_put("/mode/{subject}", self._set_mode)
        app.router.add_delete("/mode/{subject}", self._drop_mode)
        app.router.add_put("/config/{subject}", self._set_config)
        app.router.add_post("/subjects/{subject}/versions", self._import)
        return app

    def put(self, subject: str, version: int, schema_id: int, text: str) -> None:
        self.subjects.setdefault(subject, {})[version] = schema_id
        self.texts[schema_id] = text

    async def _version(self, request: web.Request) -> web.Response:
        schema_id = self.subjects.get(request.match_info["subject"], {}).get(
            int(request.match_info["version"])
        )
        if schema_id is None:
            return web.json_response(
                {"error_code": 40402, "message": "Version not found."}, status=404
            )
        return web.json_response({"id": schema_id, "schema": self.texts[schema_id]})

    async def _by_id(self, request: web.Request) -> web.Response:
        text = self.texts.get(int(request.match_info["id"]))
        if text is None:
            return web.json_response(
                {"error_code": 40403, "message": "Schema not found"}, status=404
            )
        return web.json_response({"schema": text})

    async def _mode(self, request: web.Request) -> web.Response:
        mode = self.modes.get(request.match_info["subject"])
        if mode is None:
            return web.json_response(
                {"error_code": 40409, "message": "no subject-level mode"}, status=404
            )
        return web.json_response({"mode": mode})

    async def _set_mode(self, request: web.Request) -> web.Response:
        subject, mode = request.match_info["subject"], (await request.json())["mode"]
        if mode == "IMPORT" and self.subjects.get(subject) and request.query.get("force") != "true":
            message = "Cannot import since found existing subjects"
            return web.json_response({"error_code": 42205, "message": message}, status=422)
        self.modes[subject] = mode
        return web.json_response({"mode": mode})

    async def _drop_mode(self, request: web.Request) -> web.Response:
        return web.json_response({"mode": self.modes.pop(request.match_info["subject"])})

    async def _set_config(self, request: web.Request) -> web.Response:
        self.config[request.match_info["subject"]] = (await request.json())["compatibility"]
        return web.json_response({})

    async def _import(self, request: web.Request) -> web.Response:
        subject, body = request.match_info["subject"], await request.json()
        if self.modes.get(subject) != "IMPORT":
            message = f"Subject {subject} is not in import mode"
            return web.json_response({"error_code": 42205, "message": message}, status=422)
        known = self.texts.get(body["id"])
        if known is not None and json.loads(known) != json.loads(body["schema"]):
            message = f"Overwrite new schema with id {body['id']} is not permitted."
            return web.json_response({"error_code": 42207, "message": message}, status=422)
        self.writes += 1
        self.put(subject, body["version"], body["id"], body["schema"])
        return web.json_response({"id": body["id"]})


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn()


@pytest.fixture
def register(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    monkeypatch.delenv("PITBOSS_NAMESPACE", raising=False)
    for url in in_thread(stand_in.app()):
        command = ["schemas", "register", url]
        yield lambda *options, command=command: CliRunner().invoke(
            cli, [*command, *options], catch_exceptions=False
        )


def standings(result: Result) -> set[str]:
    return {one["standing"] for one in json.loads(result.stdout)}


def test_everything_is_imported_under_our_ids_and_once(register, stand_in):
    assert standings(register("--dry-run", "--json")) == {"MISSING"}
    assert stand_in.writes == 0
    done = register("--json")
    assert (done.exit_code, standings(done)) == (0, {"IMPORTED"})
    for schema in released_registry():
        assert stand_in.subjects[schema.subject][schema.version] == schema.id
        assert checksum(json.loads(stand_in.texts[schema.id])) == checksum(schema.json)
    assert stand_in.subjects[BALANCES] == {1: released_registry().get("wallet-balance", 1).id}
    assert stand_in.modes == {}
    assert set(stand_in.config.values()) == {"FULL_TRANSITIVE"}
    written = stand_in.writes
    assert standings(register("--json")) == {"THERE"}
    assert stand_in.writes == written


def test_a_new_version_is_added_to_what_is_there_and_the_mode_is_put_back(register, stand_in):
    first = released_registry().get("player-event", 1)
    stand_in.put("player-event", 1, first.id, json.dumps(first.json))
    stand_in.modes["player-event"] = "READONLY_OVERRIDE"
    assert register().exit_code == 0
    assert sorted(stand_in.subjects["player-event"]) == [1, 2]
    assert stand_in.modes == {"player-event": "READONLY_OVERRIDE"}


@pytest.mark.parametrize("different", ["id", "content", "taken id"])
def test_a_difference_writes_nothing(register, stand_in, different):
    schema = released_registry().get("wallet-balance", 1)
    if different == "id":
        stand_in.put("wallet-balance", 1, 7, json.dumps(schema.json))
    elif different == "content":
        stand_in.put("wallet-balance", 1, schema.id, '"string"')
    else:
        stand_in.put("theirs", 1, schema.id, '"string"')
    result = register()
    assert result.exit_code == 1
    assert f"different  wallet-balance v1, id {schema.id}" in result.stdout
    assert "nothing was written" in result.stderr
    assert stand_in.writes == 0


def test_what_the_registry_says_when_it_refuses_is_passed_on(register, stand_in, monkeypatch):
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response(
            {"error_code": 42205, "message": "imports are forbidden here"}, status=422
        )

    monkeypatch.setattr(stand_in, "_set_mode", refuse)
    for url in in_thread(stand_in.app()):
        result = CliRunner().invoke(cli, ["schemas", "register", url])
    assert result.exit_code == 2
    assert "422 imports are forbidden here" in result.stderr


def test_no_registry_and_no_address():
    away = CliRunner().invoke(cli, ["schemas", "register", "http://ann:s3cret@127.0.0.1:9"])
    assert (away.exit_code, "s3cret" in away.stderr) == (69, False)
    for address in ("here", "ftp://host", "http://"):
        assert CliRunner().invoke(cli, ["schemas", "register", address]).exit_code == 2


def test_the_credentials_of_the_address_are_sent(monkeypatch, stand_in):
    seen = set()

    @web.middleware
    async def note(request: web.Request, handler: Any) -> Any:
        seen.add(request.headers.get("Authorization"))
        return await handler(request)

    app = stand_in.app()
    app.middlewares.append(note)
    for url in in_thread(app):
        result = CliRunner().invoke(
            cli, ["schemas", "register", url.replace("//", "//ann:s%40cret@"), "--dry-run"]
        )
    assert result.exit_code == 0
    assert seen == {"Basic YW5uOnNAY3JldA=="}


# --- diff and check ---------------------------------------------------------------------------------------------------


def pitboss_schemas(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["schemas", *arguments], catch_exceptions=False)


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> str:
    schema = json.loads(json.dumps(released_registry().get("wallet-balance", 1).json))
    change(schema)
    file = tmp_path / "changed.avsc"
    file.write_text(json.dumps(schema))
    return str(file)


def test_a_released_change_is_shown_field_by_field():
    same = pitboss_schemas("diff", "wallet-balance", "wallet-balance/v1")
    assert (same.exit_code, "no difference" in same.stdout) == (0, True)
    result = pitboss_schemas("diff", "player-event/v1", "player-event/v2")
    assert result.exit_code == 0
    assert ": added, " in result.stdout


def test_a_breaking_change_is_shown_with_the_path_of_the_field(tmp_path):
    def nested(schema: dict[str, Any]) -> None:
        [source] = [field for field in schema["fields"] if field["name"] == "source"]
        source["type"]["fields"].append({"name": "segment", "type": "long"})
        source["type"]["fields"][1]["type"] = "long"

    result = pitboss_schemas("diff", "wallet-balance/v1", changed(tmp_path, nested))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "source.segment: added, long, no default" in lines
    assert "source.partition: type was int, is long" in lines
    assert any(line.startswith("BACKWARD: source.segment: ") for line in lines)
    assert any(line.startswith("FORWARD: source.partition: ") for line in lines)
    result = json.loads(
        pitboss_schemas("diff", "wallet-balance/v1", changed(tmp_path, nested), "--json").stdout
    )
    assert {one["path"] for one in result["differences"]} == {"source.segment", "source.partition"}
    assert {(one["breaks"], one["path"]) for one in result["broken"]} == {
        ("BACKWARD", "source.segment"),
        ("FORWARD", "source.partition"),
    }


def test_order_defaults_and_removals_are_differences(tmp_path):
    def shuffle(schema: dict[str, Any]) -> None:
        schema["fields"] = [*reversed(schema["fields"][:-1])]
        schema["fields"][0]["default"] = ""

    result = pitboss_schemas("diff", "wallet-balance/v1", changed(tmp_path, shuffle))
    assert "source: removed, was Position, no default" in result.stdout
    assert 'event_id: default was no default, is default ""' in result.stdout
    assert "the record: order was player_id, currency" in result.stdout


@pytest.mark.parametrize("name", ["none", "missing.avsc", "pyproject.toml.avsc"])
def test_a_schema_that_is_none_is_a_usage_error(name):
    assert pitboss_schemas("diff", name, "wallet-balance").exit_code == 2


def test_check_knows_backward_and_full(monkeypatch, tmp_path):
    """A new reader that reads every old record, and an old one that does not read the new: backward, not full."""
    old = released_registry().get("wallet-balance", 1)
    wider = json.loads(Path(changed(tmp_path, lambda schema: None)).read_text())
    wider["fields"][2]["type"] = (
        "long" if wider["fields"][2]["type"] == "int" else ["null", wider["fields"][2]["type"]]
    )
    new = Schema("wallet-balance", 2, old.id + 1, wider)
    both = Registry({**{schema.id: schema for schema in released_registry()}, new.id: new})
    monkeypatch.setattr(pitboss.cli.schemas, "released_registry", lambda: both)
    monkeypatch.setattr(
        pitboss.cli.schemas,
        "released_checksums",
        lambda: {one.name: checksum(one.json) for one in both},
    )
    full = json.loads(pitboss_schemas("check", "--json").stdout)
    assert [(one["schema"], one["breaks"], one["path"]) for one in full if one["breaks"]] == [
        ("wallet-balance/v1", "FORWARD", wider["fields"][2]["name"])
    ]
    backward = pitboss_schemas("check", "--mode", "backward", "--json")
    assert [one for one in json.loads(backward.stdout) if one["breaks"]] == []
