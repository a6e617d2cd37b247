"""The fuzzer finds what it is there for: each kind of fault, plant in an adapter that is otherwise right."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from lxml import etree
from msgspec.structs import replace

from lab.conformance.adapters import AdapterUnderTest, adapter_of
from lab.conformance.cases import Mode, make_case
from lab.conformance.examples.fill import Fill
from lab.conformance.examples.find import examples_of
from lab.conformance.examples.playngo import examples as playngo_examples
from lab.conformance.fuzz import run_fuzz
from lab.conformance.mutation import mutate
from lab.conformance.respelling import respell
from schemas.events import Amount
from streams.normalise.mapping.normaliser import Normaliser
from streams.providers.adyen import Adyen
from streams.providers.dialect import Dialect, Draft
from streams.providers.house import House
from streams.providers.hub88 import Hub88
from streams.providers.playngo import PlayNGo
from streams.providers.registry import by_provider


def plant(dialect: Dialect, change) -> AdapterUnderTest:
    """The dialect's subject, its drafts changed on the way."""

    right: Any = type(dialect)

    @dataclass(frozen=True)
    class Faulty(right):
        def reader(self, material):
            read = super().reader(material)
            return lambda record, headers: change(read(record, headers))

    faulty = Faulty()
    examples = examples_of(dialect)
    alone = by_provider([faulty])
    keyed = Normaliser(alone, {dialect.provider: examples.keys})
    return AdapterUnderTest(faulty, faulty.version, examples, keyed, Normaliser(alone, {}), alone)


def each_draft(change):
    return lambda items: [change(item) if isinstance(item, Draft) else item for item in items]


def run(subject: AdapterUnderTest, count: int = 120):
    return run_fuzz(1, range(count), [subject])


@pytest.mark.parametrize(
    "dialect", [Hub88(), PlayNGo(), Adyen(), House()], ids=lambda d: d.provider
)
def test_an_adapter_that_is_right_passes(dialect):
    report = run(adapter_of(dialect), 400)
    assert report.total.is_clean, report.failures
    assert report.total.count == report.total.accepted + report.total.rejected == 400
    assert not report.too_few_accepted


def round_amounts(draft: Draft) -> Draft:
    legs = [
        leg
        if leg.amount is None
        else replace(leg, amount=Amount(int(float(leg.amount.unscaled)), leg.amount.scale))
        for leg in draft.legs
    ]
    return replace(draft, legs=legs)


def test_a_float_on_the_way_is_found():
    """A float is exact up to 2**53: no ordinary amount would tell."""
    report = run(plant(Hub88(), each_draft(round_amounts)), 2_000)
    assert report.total.inexact
    assert "valid" not in {failure.mode for failure in report.failures}


def one_more(draft: Draft) -> Draft:
    [first, *others] = draft.legs
    if first.amount is None:
        return draft
    return replace(
        draft,
        legs=[
            replace(first, amount=Amount(first.amount.unscaled + 1, first.amount.scale)),
            *others,
        ],
    )


def other_currency(draft: Draft) -> Draft:
    return replace(
        draft, legs=[replace(leg, currency=leg.currency and "SEK") for leg in draft.legs]
    )


@pytest.mark.parametrize(
    "change",
    [
        one_more,
        other_currency,
        lambda draft: replace(draft, operation=draft.operation.upper() + "S"),
        lambda draft: replace(draft, provider_tx_id=draft.provider_tx_id.strip("0123456789")),
        lambda draft: replace(draft, reference=None),
        lambda draft: replace(
            draft, player_id=None if draft.player_id is None else draft.player_id.upper()
        ),
        lambda draft: replace(draft, legs=[]),
        lambda draft: replace(draft, signature="NOT_CHECKED"),
    ],
)
def test_an_event_that_says_something_else_is_found(change):
    assert run(plant(Hub88(), each_draft(change))).total.inexact


def test_a_time_of_another_zone_is_found():
    assert run(
        plant(House(), each_draft(lambda d: replace(d, provider_at=d.provider_at + 3_600_000)))
    ).total.inexact


def test_a_lost_item_is_found():
    report = run(plant(Adyen(), lambda items: items[:-1]))
    assert report.total.unaccounted
    assert run(plant(Adyen(), lambda items: items + items[:1])).total.unaccounted


def test_an_error_that_is_no_rejection_is_found():
    def raising(items):
        message = "a field that was not there"
        raise KeyError(message)

    report = run(plant(PlayNGo(), raising), 50)
    assert report.total.exceptions > 10
    assert "KeyError" in report.failures[0].faults[0]


def test_an_answer_that_raises_is_found(monkeypatch):
    def raising(self, request, results):
        message = "an outcome that it does not know"
        raise ValueError(message)

    monkeypatch.setattr(PlayNGo, "answer", raising)
    report = run(adapter_of(PlayNGo()), 50)
    assert report.total.exceptions == report.total.count == 50


def test_a_secret_that_is_shown_is_found(monkeypatch):
    monkeypatch.setattr(PlayNGo, "redact", lambda _, value: value)
    assert run(adapter_of(PlayNGo()), 50).total.inexact


def test_examples_that_cannot_be_written_are_counted(monkeypatch):
    def raising(fill):
        message = "no"
        raise ValueError(message)

    subject = adapter_of(Hub88())
    broken = AdapterUnderTest(
        subject.dialect,
        subject.version,
        replace(subject.examples, make=raising),
        subject.keyed,
        subject.unkeyed,
        subject.among,
    )
    assert run(broken, 16).total.exceptions == 16


def test_traffic_that_is_refused_at_the_door_is_reported():
    def refuse(items):
        return []

    assert run(plant(Hub88(), refuse), 50).too_few_accepted == ["hub88/1"]


def test_a_case_is_the_same_whenever_it_is_asked_for():
    among = [adapter_of(dialect) for dialect in (Hub88(), PlayNGo(), Adyen())]
    straight = [make_case(7, index, among).record for index in range(60)]
    assert [make_case(7, index, among).record for index in (59, 3, 30)] == [
        straight[n] for n in (59, 3, 30)
    ]
    assert {make_case(7, index, among).mode for index in range(60)} == set(Mode)
    assert make_case(8, 0, among).record != straight[0]


def test_respelling_changes_bytes_and_nothing_else():
    json_body = b'{"a":1.50,"b":[{"c":null,"d":"x/y \xc3\xa9"}],"e":12345678901234567890,"f":1e3}'
    spelt = {respell(json_body, "application/json", Random(seed)) for seed in range(30)}
    assert len(spelt) > 20
    assert all(
        b"1.50" in text and b"1e3" in text and b"12345678901234567890" in text for text in spelt
    )
    assert (
        len({orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS) for text in spelt}) == 1
    )

    xml_body = b'<pkt><call b="2" a="1&amp;"><ext/></call><call a="3"/></pkt>'
    spelt = {respell(xml_body, "text/xml; charset=utf-8", Random(seed)) for seed in range(30)}
    assert len(spelt) > 5
    for text in spelt:
        calls = etree.fromstring(text).findall("call")
        assert [dict(call.attrib) for call in calls] == [{"a": "1&", "b": "2"}, {"a": "3"}]

    form = b"b=1%2B2&a=&c=x+y"
    spelt = {respell(form, "application/x-www-form-urlencoded", Random(seed)) for seed in range(30)}
    assert len(spelt) > 5
    assert {tuple(sorted(parse_qsl(text.decode(), keep_blank_values=True))) for text in spelt} == {
        (("a", ""), ("b", "1+2"), ("c", "x y"))
    }


def test_mutations_are_of_many_kinds():
    made = playngo_examples(Fill(1))
    values = {mutate(made[0], made[1], Random(seed)).value for seed in range(300)}
    assert len(values) > 200
    assert any(b"ENTITY" in value for value in values)
    assert any(value.count(b"<a>") > 100 for value in values)
    assert any(b"9223372036854775808" in value for value in values)
