"""Stories in other packings: a fault of each kind is found, and the packings are what they say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace as change

from lab.conformance.adapters import AdapterUnderTest, adapter_of
from lab.conformance.packing import PackingReport, check_packings, stories_for
from lab.conformance.placeholders import add_placeholders
from lab.conformance.stories import MIRRORS, make_story
from lab.conformance.writers import adyen, hub88, uof
from lab.conformance.writers.writer import Sending, connector_headers
from schemas.events import Kind
from streams.providers.adyen import Adyen
from streams.providers.camt import Camt
from streams.providers.dialect import Dialect, Draft, Headers, Item
from streams.providers.hub88 import Hub88
from streams.providers.references import is_placeholder
from streams.providers.registry import by_provider

Change = Callable[[list[Item], Any, Headers], list[Item]]


def faulty(dialect: Dialect, alter: Change) -> AdapterUnderTest:
    """An adapter whose items are altered after they were read."""
    right: Any = type(dialect)

    @dataclass(frozen=True)
    class Faulty(right):
        def reader(self, material):
            read = super().reader(material)
            return lambda record, headers: alter(read(record, headers), record, headers)

    Faulty.__module__ = right.__module__  # its writer is found by this name
    made = Faulty()
    return replace(adapter_of(dialect), dialect=made, among=by_provider([made]))


def each_draft(alter: Callable[[Draft, Any], Item]) -> Change:
    return lambda items, record, _: [
        alter(item, record) if isinstance(item, Draft) else item for item in items
    ]


def run(adapter: AdapterUnderTest, stories: int = 12) -> PackingReport:
    return check_packings([adapter], 1, stories)


def with_offset(draft: Draft, record: Any) -> Draft:
    return change(draft, provider_tx_id=f"{draft.provider_tx_id}-{record.offset}")


def without_way_back(draft: Draft, _: Any) -> Draft:
    if draft.operation != "REFUND_FAILED":
        return draft
    return change(draft, legs=[change(leg, kind=Kind.INFORMATIONAL.value) for leg in draft.legs])


def free_by_campaign(draft: Draft, record: Any) -> Draft:
    is_free = bool(json.loads(record.value).get("reward_uuid"))
    return change(draft, legs=[change(leg, is_free=is_free) for leg in draft.legs])


def test_an_identity_with_a_part_of_the_attempt_is_found() -> None:
    tally = run(faulty(Hub88(), each_draft(with_offset))).total
    assert tally.repacked_differences
    assert tally.mirrored_differences, "a bet that comes again is another bet"


def test_a_mirror_that_gives_nothing_back_is_found() -> None:
    report = run(faulty(Adyen(), each_draft(without_way_back)))
    assert report.total.mirrored_differences
    assert any("REFUND_FAILED of REFUND" in failure.what for failure in report.failures)


def test_a_placeholder_that_is_taken_for_a_campaign_is_found() -> None:
    report = run(faulty(Hub88(), each_draft(free_by_campaign)))
    assert any("reward_uuid" in failure.what for failure in report.failures)


def test_an_item_that_is_lost_in_a_batch_is_found() -> None:
    lost = faulty(Adyen(), lambda items, *_: items[:1])
    assert run(lost).total.repacked_differences
    assert run(faulty(Camt(), lambda items, *_: items[:1])).total.repacked_differences


def test_an_adapter_that_raises_is_a_failure_and_stops_nothing() -> None:
    def fail(items: Sequence[Item], *_: object) -> list[Item]:
        raise KeyError(len(items))

    [failure, *_] = run(faulty(Hub88(), fail), stories=2).failures
    assert "DIALECT_FAILED" in failure.detail


def test_the_right_adapter_differs_in_nothing() -> None:
    for dialect in (Hub88(), Adyen()):
        report = run(faulty(dialect, lambda items, *_: items))
        assert (report.failures, report.total.is_clean) == ([], True)


def test_a_story_is_the_same_for_the_same_seed_and_has_each_mirror_of_its_provider() -> None:
    for writer in (hub88.WRITER, adyen.WRITER, uof.WRITER):
        story = make_story(writer, ("EUR",), Random(3))
        assert story == make_story(writer, ("EUR",), Random(3))
        undone = {mirror.undo.verb for mirror in story.mirrors}
        assert undone == {
            undo
            for undo, acts in MIRRORS.items()
            if undo in writer.says and set(acts) & writer.says.keys()
        }


def test_placeholders_come_into_optional_places_only() -> None:
    story = make_story(hub88.WRITER, ("EUR",), Random(3))
    names = set()
    for seed in range(60):
        fact = Random(seed).choice(story.facts)
        message = hub88.WRITER.write((fact,), Sending(fact.at_ms), None)
        headers = dict(connector_headers(message, fact.at_ms, "tests", "default", ""))
        _, put = add_placeholders(Hub88(), fact.operation, message.body, headers, Random(seed))
        for place in put:
            name, _, text = place.partition("=")
            assert is_placeholder(text)
            names.add(name)
    assert names == {"/supplier_transaction_id", "/reward_uuid"}


@pytest.mark.parametrize(("messages", "stories"), [(1, 1), (100_000, 33), (10_000, 3)])
def test_stories_follow_the_number_of_messages(messages: int, stories: int) -> None:
    assert stories_for(messages, 15) == stories
