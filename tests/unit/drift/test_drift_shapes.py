"""Drift, format by format: the shapes of a body compared with its declared schema, each reported once."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.drift.avro_shapes import AvroShapes
from streams.drift.json_shapes import JsonShapes
from streams.drift.payload_schemas import Body, load_payload_schemas
from streams.drift.shapes import PATH_MAX, DriftKind, Shape
from streams.drift.xml_shapes import XmlShapes
from streams.providers.registry import DIALECTS
from streams.providers.xml_body import make_parser, root_of
from tests.support.examples import examples

SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "amount": {"type": "integer"},
        "state": {"type": ["string", "null"], "enum": ["OPEN", "DONE", None]},
        "code": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "meta": {"type": "object"},
        "tags": {
            "type": "object",
            "properties": {"a": {}},
            "additionalProperties": {"type": "string"},
        },
        "loose": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "additionalProperties": True,
        },
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"n": {"type": "integer"}},
                "required": ["n"],
            },
        },
        "child": {"$ref": "#/$defs/child"},
    },
    "required": ["id", "amount"],
    "$defs": {"child": {"type": "object", "properties": {"x": {"type": "number"}}}},
}


def of_json(**body: object) -> list[Shape]:
    return JsonShapes(SCHEMA).compare({"id": "1", "amount": 1} | body)


# --- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ({"bonus": 1}, (DriftKind.NEW_FIELD, "$.bonus", "")),
        ({"odd name": 1}, (DriftKind.NEW_FIELD, "$['odd name']", "")),
        ({"new": {"deep": {"er": 1}}}, (DriftKind.NEW_FIELD, "$.new", "")),
        (
            {"items": [{"n": 1}, {"n": 2, "m": 3}, {"n": 4, "m": 5}]},
            (DriftKind.NEW_FIELD, "$.items[*].m", ""),
        ),
        ({"child": {"y": 1}}, (DriftKind.NEW_FIELD, "$.child.y", "")),
        ({"items": [{}, {"n": 1}, {}]}, (DriftKind.MISSING_FIELD, "$.items[*].n", "")),
        ({"amount": "1"}, (DriftKind.CHANGED_TYPE, "$.amount", "string instead of integer")),
        ({"amount": None}, (DriftKind.CHANGED_TYPE, "$.amount", "null instead of integer")),
        ({"amount": 1.5}, (DriftKind.CHANGED_TYPE, "$.amount", "number instead of integer")),
        ({"amount": True}, (DriftKind.CHANGED_TYPE, "$.amount", "boolean instead of integer")),
        (
            {"items": [{"n": "1"}, {"n": "2"}]},
            (DriftKind.CHANGED_TYPE, "$.items[*].n", "string instead of integer"),
        ),
        (
            {"tags": {"b": 1, "c": 2}},
            (DriftKind.CHANGED_TYPE, "$.tags.*", "integer instead of string"),
        ),
        ({"child": {"x": "1"}}, (DriftKind.CHANGED_TYPE, "$.child.x", "string instead of number")),
        ({"loose": {"a": "1"}}, (DriftKind.CHANGED_TYPE, "$.loose.a", "string instead of integer")),
        ({"state": "HELD"}, (DriftKind.NEW_VALUE, "$.state", "HELD")),
        ({"state": 7}, (DriftKind.CHANGED_TYPE, "$.state", "integer instead of string or null")),
        ({"code": "eur"}, (DriftKind.CHANGED_FORMAT, "$.code", "not pattern ^[A-Z]{3}$")),
        ({"id": ""}, (DriftKind.CHANGED_FORMAT, "$.id", "not minLength 1")),
    ],
)
def test_a_json_body_shows_its_shape_once(body, shape):
    assert of_json(**body) == [shape]


def test_a_json_body_that_fulfils_its_schema_shows_nothing():
    whole = {
        "state": None,
        "code": "EUR",
        "meta": {"any": 1},
        "tags": {"any": "1"},
        "items": [{"n": 1}],
    }
    assert of_json(**whole, loose={"a": 1, "other": []}, child={"x": 1.5}) == []


def test_a_missing_field_and_others_at_once():
    assert set(JsonShapes(SCHEMA).compare({"amount": 1, "b": 1, "state": "X"})) == {
        (DriftKind.NEW_FIELD, "$.b", ""),
        (DriftKind.MISSING_FIELD, "$.id", ""),
        (DriftKind.NEW_VALUE, "$.state", "X"),
    }


@pytest.mark.parametrize("body", [None, [], "text", 7, {}, {"id": {}, "items": 3, "child": [1]}])
def test_any_json_value_has_shapes(body):
    assert JsonShapes(SCHEMA).compare(body)


def test_names_and_values_of_any_length_stay_short_and_printable():
    [name] = of_json(**{"x" * 5_000: 1})
    assert len(name.path) <= PATH_MAX
    [control] = of_json(**{"a\x1b[31m": 1})
    assert control.path.isprintable()
    [value] = of_json(state="y" * 5_000)
    assert len(value.detail) <= 64


def test_of_a_long_array_the_head_is_looked_at():
    long = [{"n": 1}] * 100_000
    assert of_json(items=[*long, {"m": 1}]) == []
    assert of_json(items=[{"n": 1, "m": 1}, *long]) == [(DriftKind.NEW_FIELD, "$.items[*].m", "")]


# --- XML --------------------------------------------------------------------------------------------------------------

XSD = b"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:p="urn:p" targetNamespace="urn:p"
 elementFormDefault="qualified">
 <xs:element name="note"><xs:complexType><xs:sequence>
  <xs:element name="id" type="xs:int"/>
  <xs:element name="money" type="p:money" minOccurs="0"/>
  <xs:choice><xs:element name="paid"/><xs:element name="free"/></xs:choice>
  <xs:element name="line" type="p:line" minOccurs="0" maxOccurs="unbounded"/>
  <xs:element name="extra" type="p:open" minOccurs="0"/>
 </xs:sequence><xs:attribute name="v" use="required"/><xs:attribute name="kind" type="p:kind"/></xs:complexType>
 </xs:element>
 <xs:complexType name="money"><xs:simpleContent><xs:extension base="xs:decimal">
  <xs:attribute name="ccy" use="required"/></xs:extension></xs:simpleContent></xs:complexType>
 <xs:complexType name="line"><xs:sequence><xs:element name="n" type="xs:int"/>
  <xs:element name="line" type="p:line" minOccurs="0"/>
  <xs:any namespace="##other" minOccurs="0" maxOccurs="unbounded" processContents="skip"/></xs:sequence>
  <xs:anyAttribute processContents="skip"/></xs:complexType>
 <xs:complexType name="open"><xs:sequence><xs:any minOccurs="0" maxOccurs="unbounded" processContents="skip"/>
  </xs:sequence><xs:anyAttribute processContents="skip"/></xs:complexType>
 <xs:simpleType name="kind"><xs:restriction base="xs:string"><xs:enumeration value="A"/><xs:enumeration value="B"/>
 </xs:restriction></xs:simpleType>
</xs:schema>"""


def of_xml(
    inner: str, attributes: str = 'v="1"', namespace: str = "urn:p", root: str = "note"
) -> list[Shape]:
    text = f'<{root} xmlns="{namespace}" {attributes}>{inner}</{root}>'
    return XmlShapes(XSD).compare(root_of(make_parser(), text.encode()))


@pytest.mark.parametrize(
    ("inner", "shape"),
    [
        ("<id>1</id><new><deep/></new><paid/>", (DriftKind.NEW_FIELD, "/note/new", "")),
        (
            "<id>1</id><paid/><line><n>1</n><m/></line><line><n>1</n><m/></line>",
            (DriftKind.NEW_FIELD, "/note/line/m", ""),
        ),
        (
            "<id>1</id><paid/><line><n>1</n><m xmlns='urn:q'/></line>",
            (DriftKind.NEW_FIELD, "/note/line/m", ""),
        ),
        (
            "<id>1</id><money ccy='EUR' unit='c'>1</money><paid/>",
            (DriftKind.NEW_FIELD, "/note/money/@unit", ""),
        ),
        ("<paid/>", (DriftKind.MISSING_FIELD, "/note/id", "")),
        ("<id>1</id><money>1</money><paid/>", (DriftKind.MISSING_FIELD, "/note/money/@ccy", "")),
        (
            "<id>1</id><paid/><line><n>1</n><line/></line>",
            (DriftKind.MISSING_FIELD, "/note/line/line/n", ""),
        ),
        ("<id>one</id><paid/>", (DriftKind.CHANGED_TYPE, "/note/id", "not xs:int")),
        (
            "<id>1</id><money ccy='EUR'>1,5</money><paid/>",
            (DriftKind.CHANGED_TYPE, "/note/money", "not xs:decimal"),
        ),
        (
            "<paid/><id>1</id>",
            (DriftKind.CHANGED_FORMAT, "/note/paid", "not in the declared order or number"),
        ),
    ],
)
def test_an_xml_body_shows_its_shape_once(inner, shape):
    assert of_xml(inner) == [shape]


def test_attributes_values_and_roots_of_xml():
    assert of_xml("<id>1</id><paid/>", "") == [(DriftKind.MISSING_FIELD, "/note/@v", "")]
    assert of_xml("<id>1</id><paid/>", 'v="1" w="2"') == [(DriftKind.NEW_FIELD, "/note/@w", "")]
    assert of_xml("<id>1</id><paid/>", 'v="1" kind="C"') == [
        (DriftKind.NEW_VALUE, "/note/@kind", "C")
    ]
    assert of_xml("<id>1</id><paid/>", namespace="urn:q") == [
        (DriftKind.NEW_MESSAGE, "/", "{urn:q}note")
    ]
    assert of_xml("", root="letter") == [(DriftKind.NEW_MESSAGE, "/", "{urn:p}letter")]


def test_an_xml_body_that_fulfils_its_schema_shows_nothing():
    assert (
        of_xml(
            '<id>1</id><money ccy="EUR">1.5</money><free/><line><n>1</n></line><extra a="1"><b/></extra>'
        )
        == []
    )


SPACED_XSD = b"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
 <xs:simpleType name="code"><xs:restriction base="xs:string"><xs:pattern value="[A-Z]{3}"/></xs:restriction></xs:simpleType>
 <xs:simpleType name="day"><xs:restriction base="xs:date"/></xs:simpleType>
 <xs:simpleType name="kind"><xs:restriction base="xs:token"><xs:enumeration value="A"/></xs:restriction></xs:simpleType>
 <xs:element name="a"><xs:complexType>
  <xs:choice maxOccurs="unbounded">
   <xs:element name="date" type="xs:date"/><xs:element name="day" type="day"/><xs:element name="at" type="xs:dateTime"/>
   <xs:element name="time" type="xs:time"/><xs:element name="month" type="xs:gYearMonth"/><xs:element name="n" type="xs:int"/>
   <xs:element name="amount" type="xs:decimal"/><xs:element name="yes" type="xs:boolean"/><xs:element name="kind" type="kind"/>
   <xs:element name="code" type="code"/><xs:element name="period" type="xs:duration"/>
   <xs:element name="money"><xs:complexType><xs:simpleContent><xs:extension base="xs:date">
    <xs:attribute name="ccy" type="code"/></xs:extension></xs:simpleContent></xs:complexType></xs:element>
  </xs:choice>
  <xs:attribute name="on" type="xs:date"/><xs:attribute name="code" type="code"/></xs:complexType></xs:element>
</xs:schema>"""


def of_spaced(text: str) -> list[Shape]:
    return XmlShapes(SPACED_XSD).compare(root_of(make_parser(), text.encode()))


@pytest.mark.parametrize("space", [" ", "\n", "\t ", "\r\n  "])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("date", "2026-11-20"),
        ("day", "2026-11-20"),
        ("day", "2026-11-20Z"),
        ("at", "2026-11-20T10:00:00Z"),
        ("time", "10:00:00"),
        ("month", "2026-11"),
        ("n", "1"),
        ("amount", "1.50"),
        ("yes", "true"),
        ("kind", "A"),
        ("period", "P1D"),
        ("money", "2026-11-20"),
    ],
)
def test_white_space_around_a_value_is_lawful_but_around_text(space, name, text):
    assert of_spaced(f"<a><{name}>{space}{text}{space}</{name}></a>") == []


def test_white_space_around_an_attribute_is_lawful_but_around_text():
    assert of_spaced('<a on=" 2026-11-20 "><n>1</n></a>') == []
    [shape] = of_spaced('<a on=" 2026-11-20 " code=" ABC "><n>1</n></a>')
    assert (shape.what, shape.path) == (DriftKind.CHANGED_FORMAT, "/a/@code")


def test_white_space_hides_no_wrong_value_and_text_keeps_its_own():
    assert of_spaced("<a><date> soon </date></a>") == [
        (DriftKind.CHANGED_TYPE, "/a/date", "not xs:date")
    ]
    assert of_spaced("<a><date> 2026-11-20 </date><n>one</n></a>") == [
        (DriftKind.CHANGED_TYPE, "/a/n", "not xs:int")
    ]
    [shape] = of_spaced("<a><code> ABC </code></a>")
    assert (shape.what, shape.path) == (DriftKind.CHANGED_FORMAT, "/a/code")
    assert of_spaced("<a><date>2026- 11-20</date></a>") != []


def test_what_is_new_hides_nothing_behind_it():
    assert of_xml("<new/><id>one</id><free/>", 'v="1" kind="C"') == [
        (DriftKind.NEW_FIELD, "/note/new", ""),
        (DriftKind.NEW_VALUE, "/note/@kind", "C"),
        (DriftKind.CHANGED_TYPE, "/note/id", "not xs:int"),
    ]


# --- Avro -------------------------------------------------------------------------------------------------------------

AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Bet",
    "fields": [
        {"name": "id", "type": "string"},
        {
            "name": "amount",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
        },
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["BET", "WIN"]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}


def container(**changes: object) -> bytes:
    fields = {field["name"]: field for field in AVRO["fields"]}
    fields |= changes
    schema = {**AVRO, "fields": [field for field in fields.values() if field is not None]}
    stream = io.BytesIO()
    fastavro.writer(stream, fastavro.parse_schema(schema), [])
    return stream.getvalue()


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({"seat": {"name": "seat", "type": "int"}}, (DriftKind.NEW_FIELD, "$.seat", "")),
        ({"id": None}, (DriftKind.MISSING_FIELD, "$.id", "")),
        (
            {"id": {"name": "id", "type": "long"}},
            (DriftKind.CHANGED_TYPE, "$.id", "long instead of string"),
        ),
        (
            {"id": {"name": "id", "type": ["null", "string"]}},
            (DriftKind.CHANGED_TYPE, "$.id", "union of null, string instead of string"),
        ),
        (
            {"tags": {"name": "tags", "type": {"type": "array", "items": "int"}}},
            (DriftKind.CHANGED_TYPE, "$.tags[*]", "int instead of string"),
        ),
        (
            {
                "kind": {
                    "name": "kind",
                    "type": {"type": "enum", "name": "Kind", "symbols": ["BET", "WIN", "TIP"]},
                }
            },
            (DriftKind.NEW_VALUE, "$.kind", "TIP"),
        ),
    ],
)
def test_the_writers_schema_of_a_container_shows_its_shape(changes, shape):
    value = container(**changes)
    assert AvroShapes(AVRO).compare(value, value) == [shape]


def test_avro_bodies_that_are_as_declared_show_nothing():
    assert AvroShapes(AVRO).compare(container(), b"") == []
    stream = io.BytesIO()
    values = {"id": "1", "amount": b"\x7f" * 9, "kind": "WIN", "tags": ["a"]}
    plain = json.loads(json.dumps(AVRO).replace('"logicalType": "decimal", ', ""))
    fastavro.schemaless_writer(stream, fastavro.parse_schema(plain), values)
    assert AvroShapes(AVRO).compare(stream.getvalue(), stream.getvalue()) == []


@pytest.mark.parametrize(
    "record", [b"", b"\x02", b"\x02a\x02\x01\x00\x00\x00left over", b"\xff" * 40]
)
def test_bare_avro_of_another_schema_is_unreadable(record):
    [shape] = AvroShapes(AVRO).compare(record, record)
    assert shape.what is DriftKind.UNREADABLE


def test_single_object_avro_of_an_unknown_schema_is_told_by_its_fingerprint():
    [shape] = AvroShapes(AVRO).compare(b"\xc3\x01" + bytes(range(8)) + b"body", b"body")
    assert shape == (
        DriftKind.UNREADABLE,
        "$",
        "written with schema 0001020304050607, which is not declared",
    )
    [broken] = AvroShapes(AVRO).compare(b"Obj\x01rest", b"")
    assert broken.what is DriftKind.UNREADABLE


# --- declared schemas, forms, text ------------------------------------------------------------------------------------


def check(provider: str, event: str, value: bytes, content_type: bytes = b"") -> list[Shape]:
    [declared, *_] = load_payload_schemas(provider)[event]
    dialect = DIALECTS[provider]
    return declared.check(Body(value, {"content-type": content_type}, dialect.payload(value)))


def test_a_form_is_held_against_its_schema_field_by_field():
    form = b"application/x-www-form-urlencoded; charset=UTF-8"
    value = (
        b"hash="
        + b"a" * 32
        + b"&providerId=P&userId=u&gameId=g&roundId=r&amount=1%2C50&reference=x&extra=1"
    )
    assert check("pragmatic", "bet", value, form) == [
        (DriftKind.NEW_FIELD, "$.extra", ""),
        (
            DriftKind.CHANGED_FORMAT,
            "$.amount",
            r"not pattern ^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$",
        ),
        (DriftKind.MISSING_FIELD, "$.timestamp", ""),
    ]
    assert check("pragmatic", "bet", b"\xff", form) == [(DriftKind.UNREADABLE, "$", "no form")]
    assert check("pragmatic", "bet", b"{", b"application/json") == [
        (DriftKind.UNREADABLE, "$", "no JSON")
    ]


def test_columns_of_a_text_file_are_held_against_their_schema():
    needed = [
        "TIMESTAMP",
        "PLAYER_ID",
        "CURRENCY",
        "BET_IN_MONTH",
        "BALANCE_MONTH_END",
        "PENDING_TRANSFER",
        "CASINO_CHIPS_VALUE",
    ]
    row = ["2026-01-31T00:00:00", "p", "EUR", "1", "2", "", ""]
    lines = ["L\tall\t+0", "\t".join([*row, "x"]), "\t".join([*needed, "NEW_COLUMN"])]
    assert check("lga_report", "report", "\n".join(lines).encode()) == [
        (DriftKind.NEW_FIELD, "$.players[*].NEW_COLUMN", "")
    ]
    row[3] = "1,5"
    lines = ["L\tall\t+0", "\t".join(row[:-1]), "\t".join(needed[:-1])]
    assert check("lga_report", "report", "\n".join(lines).encode()) == [
        (
            DriftKind.CHANGED_FORMAT,
            "$.players[*].BET_IN_MONTH",
            r"not pattern ^([+-]?\d+(\.\d+)?)?$",
        ),
        (DriftKind.MISSING_FIELD, "$.players[*].CASINO_CHIPS_VALUE", ""),
    ]


@pytest.mark.parametrize("value", [b"", b"[" * 30_000, b"\xff\xfe", b"NaN", b'{"a":', b"<a/>"])
def test_no_bytes_are_an_error(value):
    for provider in ("hub88", "playngo", "skylift"):
        for event in load_payload_schemas(provider):
            assert check(provider, event, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(body=JSON, name=st.text(min_size=1, max_size=12))
def test_a_field_more_is_one_shape_more_whatever_else_is_there(body, name):
    shapes = JsonShapes(SCHEMA)
    whole = {"id": "1", "amount": 1, "meta": body}
    before = shapes.compare(whole)
    after = shapes.compare({**whole, "x-" + name: body})
    assert [shape for shape in after if "x-" not in shape.path[:5]] == before
    assert len(after) == len(before) + 1
    assert all(
        shape.path.isprintable() and shape.detail.isprintable()
        for shape in shapes.compare({"meta": body, name: body})
    )


@examples(40)
@given(body=JSON)
def test_any_value_has_shapes_against_any_schema(body):
    value = json.dumps(body).encode()
    for provider in ("hub88", "stripe", "adyen", "sumsub"):
        for versions in load_payload_schemas(provider).values():
            for declared in versions:
                assert isinstance(declared.check(Body(value, {}, value)), list)


def test_every_provider_has_declared_something():
    for provider in DIALECTS:
        assert load_payload_schemas(provider), provider
    assert load_payload_schemas("unknown") == {}
