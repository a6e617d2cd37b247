"""A sender's rubbish does not grow a worker: names in XML bodies are forgotten again."""

from __future__ import annotations

import gc
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from runtime.kafka.memory_tuning import release_memory
from schemas.errors import Rejected
from streams.drift.checking import DriftChecker
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers import xml_body
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import raw_record

BODY_BYTES = 30_000
TOTAL_BYTES = 6_000_000
GROWTH_MAX_BYTES = 4_000_000
"""Kept for good, 6 MB of names are 15 MB and more."""

_numbers = count()


def resident_bytes() -> int:
    gc.collect()
    release_memory()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def elements(root: str) -> bytes:
    names = [f"e{next(_numbers):09d}x" for _ in range(BODY_BYTES // 14)]
    return f"<{root}>{''.join(f'<{name}/>' for name in names)}</{root}>".encode()


def attributes(root: str) -> bytes:
    names = [f"a{next(_numbers):09d}x" for _ in range(BODY_BYTES // 16)]
    pairs = " ".join(f"{name}='1'" for name in names)
    return f"<{root} {pairs}/>".encode()


def behind_a_quoted_bracket(root: str) -> bytes:
    return attributes(root).replace(b" ", b' x=">" ', 1)


def namespaces(root: str) -> bytes:
    return b"".join(
        b'<%s xmlns="urn:%09d"/>' % (root.encode(), next(_numbers)) for _ in range(1_000)
    ).join([b"<%s>" % root.encode(), b"</%s>" % root.encode()])


def one_long_name(root: str, before: bytes, behind: bytes) -> bytes:
    name = b"n%09d" % next(_numbers) * (BODY_BYTES // 10)
    return b"<%s>" % root.encode() + before + name + behind


def entity(root: str) -> bytes:
    return one_long_name(root, b"&", b";</%s>" % root.encode())


def unfinished(root: str) -> bytes:
    return one_long_name(root, b"<", b"")


def instruction(root: str) -> bytes:
    return one_long_name(root, b"<?", b" x?></%s>" % root.encode())


def identifier(root: str) -> bytes:
    name = root.encode()
    return b"<%s>%s</%s>" % (
        name,
        b"".join(b'<%s xml:id="i%09d"/>' % (name, next(_numbers)) for _ in range(1_000)),
        name,
    )


def hidden_by_its_encoding(root: str) -> bytes:
    names = "".join(f"+ADw-e{next(_numbers):09d}x/+AD4-" for _ in range(1_000))
    return f'<?xml version="1.0" encoding="utf-7"?><{root}>{names}</{root}>'.encode()


MAKERS = (
    elements,
    attributes,
    behind_a_quoted_bracket,
    namespaces,
    entity,
    unfinished,
    instruction,
    identifier,
    hidden_by_its_encoding,
)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_the_names_of_any_body_are_forgotten(make):
    parser = xml_body.make_parser()

    def parse(body: bytes) -> None:
        with suppress(Rejected):
            xml_body.root_of(parser, body)

    known = b'<pkt a="1"><call seq="2"/></pkt>'
    for _ in range(5):  # what is good is known by then
        parse(known)
        parse(make("pkt"))
    before, total = resident_bytes(), 0
    while total < TOTAL_BYTES:
        body = make("pkt")
        parse(body)
        total += len(body)
    assert resident_bytes() - before < GROWTH_MAX_BYTES


@pytest.mark.parametrize(
    "provider",
    [
        pytest.param(name, marks=pytest.mark.prove)
        for name in ("microgaming", "playngo", "camt", "uof")
    ],
)
def test_unsigned_rubbish_of_a_provider_grows_neither_normaliser_nor_drift(provider):
    normaliser, drift = Normaliser(DIALECTS, {}), DriftChecker()
    before, total = resident_bytes(), 0
    while total < TOTAL_BYTES:
        body = elements({"microgaming": "pkt", "playngo": "reserve"}.get(provider, "Document"))
        record = raw_record(provider, body)
        normaliser.normalise(record)
        drift.check(provider, record)
        total += len(body)
    assert resident_bytes() - before < GROWTH_MAX_BYTES
