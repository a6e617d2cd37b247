"""How broker and database are reached is declared in runtime/security.py, and each client uses it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.unit.test_tidy import nodes, product

DECLARATION = "runtime/security.py"
AIOKAFKA = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient"}
LIBRDKAFKA = {"Consumer", "Producer", "AdminClient"}
OPTIONS = {
    **{name: {"aiokafka_options"} for name in AIOKAFKA},
    **{name: {"librdkafka_options", "consumer_options"} for name in LIBRDKAFKA},
    "App": {"faust_options"},
    "PitbossApp": {"faust_options"},
    "Application": {"librdkafka_options"},
    "KafkaSource": {"librdkafka_options"},
    "KafkaSink": {"librdkafka_options"},
}
"""Constructors of clients, with the methods of which one is called in the same module."""
KEYWORDS = {
    *("bootstrap_servers", "security_protocol", "ssl_context", "sasl_mechanism"),
    *("sasl_plain_username", "sasl_plain_password", "broker_credentials"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "channel_binding"),
}
DECLARED = {"BrokerAddress", "DatabaseSecurity"}
"""The declaration itself, whose fields are not options of a client."""
PREFIXES = ("bootstrap.servers", "security.protocol", "sasl.", "ssl.")


def clients_made(tree: ast.Module) -> Iterator[str]:
    modules = {
        alias.asname or alias.name: node.module or ""
        for node in nodes(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in nodes(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "App":
            yield "App"
        elif isinstance(node.func, ast.Name):
            name, origin = node.func.id, modules.get(node.func.id, "")
            libraries = ("aiokafka", "confluent_kafka", "quixstreams", "bytewax")
            if name == "PitbossApp" or (origin.startswith(libraries) and name in OPTIONS):
                yield name


def names_in(tree: ast.Module) -> set[str]:
    return {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in nodes(tree)
        if isinstance(node, ast.Attribute | ast.Name)
    }


def own_security(tree: ast.Module) -> Iterator[str]:
    for node in nodes(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") not in DECLARED:
            yield from (
                f"line {node.lineno}: {one.arg}=" for one in node.keywords if one.arg in KEYWORDS
            )
        if isinstance(node, ast.Dict):
            for key in node.keys:
                text = key.value if isinstance(key, ast.Constant) else None
                if isinstance(text, str) and (text in KEYWORDS or text.startswith(PREFIXES)):
                    yield f"line {node.lineno}: {text!r}"


def faults_of(name: str, tree: ast.Module) -> list[str]:
    if name == DECLARATION:
        return []
    names = names_in(tree)
    return [
        *(f"{name}: {one}" for one in own_security(tree)),
        *(
            f"{name}: makes a {client} without {' or '.join(sorted(OPTIONS[client]))}"
            for client in clients_made(tree)
            if not OPTIONS[client] & names
        ),
    ]


def test_no_client_says_itself_how_its_server_is_reached():
    faults = [fault for name, tree in product().items() for fault in faults_of(name, tree)]
    assert not faults


def test_every_library_that_speaks_to_the_broker_is_looked_at():
    made = {client for tree in product().values() for client in clients_made(tree)}
    assert made == OPTIONS.keys()


@pytest.mark.parametrize(
    "text",
    [
        "from aiokafka import AIOKafkaProducer\nAIOKafkaProducer(bootstrap_servers=b)",
        "from aiokafka import AIOKafkaProducer\nAIOKafkaProducer(**options)",
        "from confluent_kafka import Consumer\nConsumer({'bootstrap.servers': b})",
        "options = {'sasl.password': p}",
        "psycopg.connect(url, sslmode='disable')",
        "faust.App('a', broker='kafka://b:1')",
    ],
)
def test_a_module_that_says_so_itself_is_found(text):
    assert faults_of("ledger_sink/some.py", ast.parse(text))
