"""A body counts as known only if parsing it can add no name to those that the parser keeps."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from streams.providers import xml_names
from streams.providers.xml_body import make_parser
from streams.providers.xml_names import KnownNames

CALL = b'<?xml version="1.0" encoding="utf-8"?>\n<pkt><call seq="1" amount=\'7\'>a &amp; b</call></pkt>'
SAME_NAMES = b'<pkt><call seq="2&quot;" amount=\'8\'>"x=1>"</call></pkt>'


@pytest.fixture
def known():
    names = KnownNames()
    assert [names.covers(CALL) for _ in range(3)] == [False, False, True]
    assert names.covers(CALL[CALL.index(b"<pkt") :])
    return names


def test_the_same_names_with_other_values_are_known(known):
    assert known.covers(SAME_NAMES)
    assert known.covers(b"<pkt><call seq='' amount=\"\">&#228;&lt;</call></pkt>")
    assert known.covers(b"<pkt><!-- a, b - c --><call seq='' amount=''></call></pkt>")


@pytest.mark.parametrize(
    "tag",
    [
        b'<pkt xmlns="urn:a">',
        b'<pkt a="1" xmlns=\'urn:a\'\n xmlns:xsi="urn:b" xsi:type="c">',
    ],
)
def test_a_namespace_is_known_with_its_value(known, tag):
    assert [known.covers(tag + b"</pkt>") for _ in range(3)] == [False, False, True]
    assert known.covers(tag.replace(b'"1"', b'"2"').replace(b'"c"', b'"d"') + b"</pkt>")
    assert not known.covers(tag.replace(b"urn:a", b"urn:c") + b"</pkt>")


@pytest.mark.parametrize(
    "body",
    [
        b"<pkt><other/></pkt>",
        b'<pkt><call seq="1" amount="7" more="1"/></pkt>',
        b'<pkt><call seq=">" amount="7" more="1"></call></pkt>',
        b"<pkt>='<call seq='1' amount='7' more='1'></call></pkt>",
        b"<pkt>=\"<call seq='1' more='1' amount='7'></call>\"</pkt>",
        b"<pkt><call seq=''more='' amount=''></call></pkt>",
        b'<?xml version="1.0" encoding="utf-8" more="1"?><pkt></pkt>',
        b"<pkt>&other;</pkt>",
        b"<pkt>& amp;</pkt>",
        b"<pkt></pkt><other",
        b"<pkt",
        b"<!DOCTYPE pkt><pkt></pkt>",
        b"<pkt><!-- <other/> --></pkt>",
        b"<pkt><!-- a -- b --></pkt>",
        b"<pkt><!-- &a; --></pkt>",
        b"<pkt><!-- a </pkt>",
        b"<pkt><![CDATA[a]]></pkt>",
        b"<pkt><?target a?></pkt>",
        b'<pkt xmlns="urn:a"></pkt>',
        b'<pkt xml:id="a"></pkt>',
        b'<?xml version="1.0" encoding="utf-7"?><pkt></pkt>',
        b'<?xml version="1.0" encoding="utf-16"?><pkt></pkt>',
        "<pkt></pkt>".encode("utf-16"),
        "<pkt></pkt>".encode("utf-16-le"),
        "<pkt></pkt>".encode("cp037"),
        b"",
        b"pkt",
        b"<pkt>" + b" " * xml_names.SCANNED_BYTES_MAX + b"</pkt>",
    ],
)
def test_what_may_hold_another_name_is_not_known(known, body):
    assert not known.covers(body)


@pytest.mark.parametrize(
    "body",
    [
        b'<pkt xmlns = "urn:a"></pkt>',
        b'<pkt xmlns="urn:&#97;"></pkt>',
        b'<pkt xmlns:%s="urn:a"></pkt>' % (b"a" * 21),
        b'<pkt xml:lang="en"></pkt>',
        b'<?xml version="1.0" encoding="utf-7"?><pkt></pkt>',
    ],
)
def test_what_may_not_be_known_never_is(known, body):
    for _ in range(4):
        assert not known.covers(body)


def test_what_is_known_is_bounded(monkeypatch):
    monkeypatch.setattr(xml_names, "KNOWN_BYTES_MAX", 100)
    names = KnownNames()
    for n in range(50):
        for _ in range(2):
            names.covers(b"<a%02d/>" % n)
    assert sum(names.covers(b"<a%02d/>" % n) for n in range(50)) == 100 // len(b"<a00/>")


def quiet_names() -> KnownNames:
    names = KnownNames(Random(1))
    for _ in range(xml_names.QUIET_BODIES + 2):
        names.is_trusted(CALL)
    return names


def test_no_body_with_new_names_is_trusted_before_a_thousand_without():
    names = KnownNames(Random(1))
    for n in range(xml_names.QUIET_BODIES * 2):
        assert not names.is_trusted(b"<a%d/>" % n)
        names.is_trusted(CALL)


def test_a_body_too_long_to_scan_is_never_trusted():
    assert not quiet_names().is_trusted(b"<a>" + b" " * xml_names.SCANNED_BYTES_MAX + b"</a>")


def test_what_a_sender_can_add_between_the_scans_is_bounded():
    names = quiet_names()
    added = [0] * xml_names.SURPRISES_MAX
    for turn in range(xml_names.SURPRISES_MAX):
        while names.is_trusted(b"<a%d/>" % sum(added)):
            added[turn] += 1
        # The sender waits until its bodies are trusted again.
        for _ in range(xml_names.QUIET_BODIES):
            assert names.is_trusted(CALL)
    assert 0 < sum(added) < 2 * xml_names.SURPRISES_MAX * xml_names.SCAN_ONE_IN
    for n in range(1_000):
        assert not names.is_trusted(b"<b%d/>" % n)


_name = st.sampled_from(["a", "b", "c", "a:b", "xml:id", "xmlns", "xmlns:a"])
_value = st.text(st.sampled_from("<>\"'&=;ab /"), max_size=6)
_piece = st.one_of(
    st.builds("<{} {}='{}'>".format, _name, _name, _value),
    st.builds('<{} {} = "{}" {}="{}">'.format, _name, _name, _value, _name, _value),
    st.builds("<{}>".format, _name),
    st.builds("</{}>".format, _name),
    st.builds("<{}/>".format, _name),
    st.builds("&{};".format, _name),
    st.builds("<!--{}-->".format, _value),
    st.builds("<![CDATA[{}]]>".format, _value),
    st.builds("<?{} {}?>".format, _name, _value),
    _value,
)
_body = st.lists(_piece, max_size=6).map(lambda pieces: "".join(pieces).encode())


XML_NAMESPACE = "{http://www.w3.org/XML/1998/namespace}"
"""Bound to the prefix `xml` in every document, so no body has to declare it."""


def names_of(body: bytes) -> set[str] | None:
    """Every name in a body's tree as it is written; None if it is not well-formed."""
    try:
        root = etree.fromstring(body, make_parser())
    except etree.XMLSyntaxError:
        return None
    names = set()
    for element in root.iter():
        names |= {str(element.tag), *map(str, element.attrib), *map(str, element.nsmap.values())}
    return {name.replace(XML_NAMESPACE, "xml:") for name in names if name}


@given(st.lists(st.one_of(_body, _body.map(lambda b: b"<a>" + b + b"</a>")), max_size=8))
def test_a_known_body_has_no_name_that_was_not_in_another(bodies):
    names = KnownNames()
    written: set[str] = set()
    for body in [*bodies, *bodies, *bodies]:
        if names.covers(body):
            found = names_of(body)
            assert found is None or found <= written
        written.update(re.findall("[a-z:]+", body.decode()))
