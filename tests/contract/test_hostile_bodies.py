"""What a stranger may send costs no more than reading it: much of anything, to every adapter, at every place.

Time is the process's own, so that a loaded machine proves nothing; what took the square of its input took hours here.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from lxml import etree
from msgspec.structs import replace

from lab.conformance.adapters import AdapterUnderTest, adapter_of, registered_versions
from lab.conformance.examples.fill import Example, Fill, record
from schemas.errors import RejectCode
from streams.drift.checking import DriftChecker
from streams.drift.drift_events import build_drift_events
from streams.drift.payload_schemas import Body, load_payload_schemas
from streams.drift.shapes import DriftKind, Shape
from streams.drift.xml_shapes import XmlShapes
from streams.normalise.mapping.normaliser import ItemResult, RejectedItem
from streams.providers.xml_body import NOT_SHOWN, is_searchable

SUBJECTS = {
    f"{version.row.provider}-{version.row.version}": adapter_of(version.dialect)
    for version in registered_versions()
}
SECONDS = 20.0
SIZE = 900_000
TEXT = " - at `$" + "a" * SIZE
BEGINNINGS = 250_000
"""Bytes of beginnings: less than a body may have, and still minutes where each of them is looked at to the end."""

every_adapter = pytest.mark.parametrize("name", sorted(SUBJECTS))


@contextmanager
def soon(what: object) -> Iterator[None]:
    """Fails where the block takes longer than it may, instead of waiting for its end."""

    def late(*_: object) -> None:
        pytest.fail(f"more than {SECONDS:g} s for {what}")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def normalise(subject: AdapterUnderTest, example: Example, what: object) -> list[ItemResult]:
    with soon(what):
        results = subject.unkeyed.normalise(record(example, subject.dialect.provider))
    for item in results:
        assert not isinstance(item, RejectedItem) or item.code is not RejectCode.DIALECT_FAILED, (
            what
        )
    return results


# --- JSON: what msgspec quotes in its complaint ----------------------------------------------------------------------


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a value stands that is neither an object nor a list."""
    pairs = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in pairs:
        yield from places(value, (*path, key))
    if path and not isinstance(node, dict | list):
        yield path


def spoilt(body: Any, path: tuple[str | int, ...], text: str) -> bytes:
    """The body with a text at that place."""
    node = body = json.loads(json.dumps(body))
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = text
    return msgspec.json.encode(body)


def objects(subject: AdapterUnderTest) -> Iterator[tuple[Example, dict[str, Any]]]:
    for example in subject.make_examples(Fill(1)):
        if example.value.lstrip()[:1] == b"{":
            yield example, json.loads(example.value)


JSON = sorted(name for name, subject in SUBJECTS.items() if any(objects(subject)))


def test_these_speak_json():
    assert {name.partition("-")[0] for name in JSON} >= {
        "adyen",
        "house",
        "hub88",
        "hundredhp",
        "stripe",
        "sumsub",
    }


@pytest.mark.parametrize("name", JSON)
def test_a_megabyte_in_any_field_of_json_is_read_once(name):
    seen: set[object] = set()
    rejected = 0
    for example, body in objects(SUBJECTS[name]):
        for path in places(body):
            place = (body.get("operation"), *path)
            if place not in seen:
                seen.add(place)
                hostile = replace(example, value=spoilt(body, path, TEXT)[:999_999])
                results = normalise(SUBJECTS[name], hostile, (name, path))
                rejected += any(isinstance(item, RejectedItem) for item in results)
    assert rejected >= 3


@pytest.mark.parametrize(
    ("name", "path", "code"),
    [
        ("adyen-1", ("live",), RejectCode.BAD_FIELD),
        (
            "adyen-1",
            ("notificationItems", 0, "NotificationRequestItem", "success"),
            RejectCode.BAD_FIELD,
        ),
        ("house-1", ("operation",), RejectCode.UNKNOWN_OPERATION),
        ("sumsub-1", ("reviewResult", "reviewAnswer"), RejectCode.BAD_FIELD),
        ("sumsub-1", ("reviewResult", "reviewRejectType"), RejectCode.BAD_FIELD),
    ],
)
@pytest.mark.parametrize(
    "text", [TEXT, " - at `$.amount`", "` - at `$.amount`" * 50_000, "`$" * 400_000]
)
def test_a_word_of_few_that_is_quoted_whole(name, path, code, text):
    """These quote what was sent; a path in the quotation is not the field that does not fit."""
    example, body = next(
        found
        for found in objects(SUBJECTS[name])
        if path in set(places(found[1])) or len(path) == 1
    )
    hostile = replace(example, value=spoilt(body, path, text))
    items = normalise(SUBJECTS[name], hostile, (name, path))
    assert [item.code for item in items if isinstance(item, RejectedItem)][:1] == [code]


# --- what is shown of a body ------------------------------------------------------------------------------------------

OPENERS = [
    b"<accessToken",
    b"<accessToken ",
    b"<accessToken\t",
    b"<accessToken/",
    b"<accessToken>",
    b"<accessTokenX",
    b"<",
    b"<?xml ",
    b"<?xml",
    b'<?xml version="1.0" ',
    b"<?xml encoding ",
    b"<?xml encoding='utf-8' ",
    b"encoding='",
    b"login",
    b"login ",
    b"login=",
    b'login="',
    b"password='",
    b" password = ",
    b'"secret"',
    b'"secret" ',
    b'"secret": ',
    b'"secret":"',
    b'"secret":"\\',
    b'"',
    b"token",
    b"token=",
    b"&token=%",
    b"&secret_key",
    b"%",
    b"+",
    b"&",
    b"=",
    b"\t",
    b"\n",
    b" ",
    b"\\",
    b"REG_DOB\t",
    b"REG_DOB\n",
]


@every_adapter
def test_a_body_of_beginnings_is_shown_as_soon_as_any(name):
    dialect = SUBJECTS[name].dialect
    for opener in OPENERS:
        for front in (b"", b"<reserve>", SUBJECTS[name].make_examples(Fill(1))[0].value):
            with soon((name, front[:20], opener)):
                assert isinstance(
                    dialect.redact(front + opener * (BEGINNINGS // len(opener))), bytes
                )


@pytest.mark.parametrize(
    ("value", "searchable"),
    [
        (b"<a/>", True),
        (b"{}", True),
        (b'<?xml version="1.0"?><a/>', True),
        (b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?><a/>', True),
        (b"\n<?xml version='1.0' encoding = 'iso-8859-15' ?><a/>", True),
        (b'<?xml version="1.0" encoding="utf-7"?><a/>', False),
        (b"<?xml\nversion='1.0'\n encoding\n=\n'utf-7'?><a/>", False),
        (b"<?XML version='1.0' encoding='utf-7'?><a/>", False),
        (b'<?xml version=">" encoding="utf-7"?><a/>', False),
        (
            b"<?xml" + b" " * 300 + b"version='1.0' encoding='utf-7'?><a/>",
            False,
        ),  # lxml reads it as UTF-7
        (b'<?xml version="1.0" encoding="utf-7"', False),
        (b'<?xml version="1.0"?><a><?xml version="1.0" encoding="utf-7"?></a>', False),
        (b"<a>\0</a>", False),
        (b'<?xml-stylesheet href="encoding=x"?><a/>', True),
    ],
)
def test_a_secret_is_looked_for_only_where_it_would_be_found(value, searchable):
    assert is_searchable(value) is searchable
    shown = SUBJECTS["playngo-1"].dialect.redact(value)
    assert shown == (value if searchable else NOT_SHOWN)


# --- what drift detection makes of it ---------------------------------------------------------------------------------

QUOTED = ["type '{", "type '", "facet '", "Element '", "{"]
QUOTATION = 60_000
"""As much of a value as libxml2 repeats in its complaint, nearly."""

NUMBERS = b"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="note"><xs:complexType><xs:sequence>
<xs:element name="n" type="xs:int" maxOccurs="unbounded"/></xs:sequence></xs:complexType></xs:element></xs:schema>"""


@pytest.mark.parametrize("quoted", QUOTED)
def test_complaints_that_quote_the_body_are_read_once(quoted):
    text = quoted * (QUOTATION // len(quoted))
    numbers = f"<n>{text}</n>" * (SIZE // QUOTATION)
    body = etree.fromstring(f"<note>{numbers}<n>one</n></note>")
    shapes = XmlShapes(NUMBERS)
    with soon(quoted):
        assert Shape(DriftKind.CHANGED_TYPE, "/note/n", "not xs:int") in shapes.compare(body)


@pytest.mark.parametrize("name", ["microgaming-1", "playngo-1", "uof-1"])
@pytest.mark.parametrize("quoted", QUOTED)
def test_a_document_of_quotations_is_compared_with_its_schema_soon(name, quoted):
    subject = SUBJECTS[name]
    root = etree.fromstring(subject.make_examples(Fill(1))[0].value)
    for element in root.iter(etree.Element):
        for attribute in list(element.attrib):
            element.set(attribute, quoted * (QUOTATION // len(quoted)))
        if not len(element):
            element.text = quoted * (QUOTATION // len(quoted))
    # By itself: the dialects of calls let nothing of this length come here.
    body = Body(etree.tostring(root), {}, None)
    with soon((name, quoted)):
        shapes = [
            one.check(body)
            for versions in load_payload_schemas(subject.dialect.provider).values()
            for one in versions
        ]
    assert any(shapes)


@every_adapter
def test_a_body_of_beginnings_is_compared_with_its_schemas_as_soon_as_any(name):
    subject, checker = SUBJECTS[name], DriftChecker()
    provider = subject.dialect.provider
    example = subject.make_examples(Fill(1))[0]
    for opener in OPENERS:
        for front in (b"", example.value):
            raw = record(
                replace(example, value=front + opener * (BEGINNINGS // len(opener))), provider
            )
            with soon((name, opener)):
                subject.unkeyed.normalise(raw)
                build_drift_events(raw, checker.check(provider, raw))
