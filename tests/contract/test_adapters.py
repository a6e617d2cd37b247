"""The conformance suite: what every adapter promises, held over every registered one without naming any.

An adapter is found in the registry, its traffic by convention (`lab/conformance/examples/fill.py`). One that has no
examples fails here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import cache
from random import Random
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace

from lab.conformance.adapters import AdapterUnderTest, adapter_of, all_adapters, registered_versions
from lab.conformance.answers import check_answers
from lab.conformance.examples.fill import CURRENCIES, Example, Fill, record
from lab.conformance.examples.find import examples_of
from lab.conformance.fuzz import REASONS, outcomes_for
from lab.conformance.mutation import mutate
from lab.conformance.oracle import check_expectations, check_soundness, event_of
from lab.conformance.packing import check_packings
from lab.conformance.respelling import respell
from lab.conformance.stories import MIRRORS
from lab.conformance.suite import alter_keys
from lab.conformance.writers.find import writer_of
from schemas import money
from schemas.errors import RejectCode, Rejected
from schemas.events import Outcome, SignatureVerdict, WalletTransaction
from schemas.money import EXPONENTS
from streams.normalise.mapping.normaliser import (
    AcceptedTransaction,
    ItemResult,
    Normaliser,
    RejectedItem,
)
from streams.providers.dialect import Dialect, Reply
from streams.providers.registry import by_provider
from tests.support.examples import examples
from tests.support.payload_schemas import complaint, schema_files

VALID, NOT_CHECKED = SignatureVerdict.VALID.value, SignatureVerdict.NOT_CHECKED.value
ADAPTERS = {
    f"{version.row.provider}-{version.row.version}": version.dialect
    for version in registered_versions()
}

every_adapter = pytest.mark.parametrize("name", sorted(ADAPTERS))


@cache
def subject(name: str) -> AdapterUnderTest:
    return adapter_of(ADAPTERS[name])


@cache
def routed(name: str) -> AdapterUnderTest:
    """The adapter among all versions of all providers, as in a worker."""
    return {each.name.replace("/", "-"): each for each in all_adapters()}[name]


def provider(name: str) -> str:
    return ADAPTERS[name].provider


def read(name: str, example: Example, *, keyed: bool = True, **place: int) -> list[ItemResult]:
    normaliser = subject(name).keyed if keyed else subject(name).unkeyed
    return normaliser.normalise(record(example, provider(name), **place))


def identities(results: Iterable[ItemResult]) -> list[tuple[str, str]]:
    """Event id and fingerprint of every event; what was rejected stands as its code."""
    found = []
    for item in results:
        if isinstance(item, RejectedItem):
            found.append((item.code.value, ""))
        else:
            event = event_of(item)
            found.append(
                (event.event_id, event.fingerprint if isinstance(event, WalletTransaction) else "")
            )
    return found


# --- there are examples, and they are the provider's ----------------------------------------------------------------


@every_adapter
def test_an_adapter_has_examples(name):
    made = subject(name).make_examples(Fill(1))
    assert made
    assert len({example.name for example in made}) == len(made), "two examples have one name"
    assert any(expected.code is None for example in made for expected in example.expects)
    assert all(example.expects for example in made)


@every_adapter
def test_the_same_fill_makes_the_same_bytes(name):
    assert subject(name).make_examples(Fill(1)) == subject(name).make_examples(Fill(1))


@every_adapter
def test_an_example_fulfils_its_payload_schema(name):
    examples = examples_of(ADAPTERS[name])
    for fill in (Fill(1), Fill(2, examples.currencies[-1])):
        for example in subject(name).make_examples(fill):
            if all(expected.code is not None for expected in example.expects):
                continue
            versions = schema_files(provider(name), example)
            assert versions, (
                f"{example.name}: no folder with a schema under schemas/providers/{provider(name)}"
            )
            complaints = [complaint(path, example, examples) for path in versions]
            assert "" in complaints, f"{example.name}: {complaints[0]}"


# --- money is exact, and so is everything else ----------------------------------------------------------------------


@every_adapter
def test_amounts_are_exact_in_every_currency(name):
    """The legs of each example, in currencies of 0, 2, 3, 4, 6 and 8 decimals as far as the provider has them."""
    for currency in subject(name).examples.currencies:
        for seed in range(12):
            fill = Fill(seed, currency)
            for example in subject(name).make_examples(fill):
                results = read(name, example)
                verdict = None if subject(name).examples.keys else NOT_CHECKED
                assert (
                    check_soundness(results) + check_expectations(example, fill, results, verdict)
                    == []
                ), (currency, seed, example)


@pytest.fixture
def further_currencies(monkeypatch):
    """Currencies of 1, 5 and 7 decimals, which no country has: with the others every number from 0 to 8."""
    decimals = {"XTA": 1, "XTE": 5, "XTG": 7}
    for code, exponent in decimals.items():
        monkeypatch.setitem(money._exponents, code, exponent)
    return tuple(decimals)


@every_adapter
def test_amounts_are_exact_in_currencies_that_an_installation_adds(name, further_currencies):
    examples = subject(name).examples
    if examples.currencies is not CURRENCIES:
        return  # the provider has a list of its own, and these are not in it
    for currency in further_currencies:
        for seed in range(8):
            fill = Fill(seed, currency)
            assert fill.scale == EXPONENTS[currency]
            for example in subject(name).make_examples(fill):
                verdict = None if examples.keys else NOT_CHECKED
                assert check_expectations(example, fill, read(name, example), verdict) == [], (
                    currency,
                    seed,
                    example,
                )


@every_adapter
def test_odd_text_and_huge_amounts_are_exact_or_rejected(name):
    accepted = 0
    for currency in (*subject(name).examples.currencies, "XQQ"):
        for seed in range(10):
            fill = Fill(seed, currency, hostile=True)
            for example in subject(name).make_examples(fill):
                results = read(name, example)
                verdict = None if subject(name).examples.keys else NOT_CHECKED
                assert (
                    check_soundness(results) + check_expectations(example, fill, results, verdict)
                    == []
                ), (currency, seed, example)
                accepted += any(not isinstance(item, RejectedItem) for item in results)
    assert accepted


@every_adapter
def test_the_zone_of_the_machine_changes_nothing(name, monkeypatch):
    """14:03:20 UTC read in the machine's zone would be another hour."""
    made = subject(name).make_examples(Fill(1))
    first = [read(name, example) for example in made]
    try:
        for zone in ("Asia/Tokyo", "America/St_Johns"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            assert subject(name).make_examples(Fill(1)) == made
            assert [read(name, example) for example in made] == first
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_zone_really_changes_in_that_test(monkeypatch):
    try:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert time.localtime(0).tm_hour == 9, os.environ["TZ"]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_each_version_is_known_among_all_others():
    """Every example, read by a worker that has every version of every provider: by the version that it was made for."""
    for each in all_adapters():
        for example in each.make_examples(Fill(1)):
            for normaliser in (each.keyed, each.unkeyed):
                results = normaliser.normalise(record(example, each.dialect.provider))
                read_as = {
                    event_of(item).provider_version
                    for item in results
                    if not isinstance(item, RejectedItem)
                }
                assert read_as <= {each.version}, example


# --- who an event is -------------------------------------------------------------------------------------------------


@every_adapter
@examples(40)
@given(seed=st.integers(0, 2**32))
def test_a_retry_is_the_same_event(name, seed):
    """Sent again: later, with other request ids, in another order of fields, at another place of the topic."""
    rng = Random(seed)
    fill = Fill(seed, rng.choice(subject(name).examples.currencies))
    again = subject(name).make_examples(fill.again())
    for first, second in zip(subject(name).make_examples(fill), again, strict=True):
        assert identities(read(name, first)) == identities(
            read(name, second, partition=5, offset=10**9)
        )
        content_type = second.headers.get("content-type", b"").decode()
        other = replace(second, value=respell(second.value, content_type, rng))
        assert identities(read(name, other, keyed=False)) == identities(
            read(name, first, keyed=False)
        ), other


@every_adapter
def test_a_retry_differs_in_its_bytes(name):
    """Or the test above shows nothing: a provider that puts neither a time nor a request id into a message is rare."""
    fill = Fill(1)
    texts = {
        respell(example.value, example.headers.get("content-type", b"").decode(), Random(seed))
        for example in subject(name).make_examples(fill)
        for seed in range(5)
    }
    retried = subject(name).make_examples(fill.again())
    headers_differ = [
        a.headers != b.headers
        for a, b in zip(subject(name).make_examples(fill), retried, strict=True)
    ]
    assert len(texts) > len(retried) or all(headers_differ)


@every_adapter
@examples(20)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_round_in_any_order_is_the_same_events(name, seed, data):
    """An adapter remembers nothing from one record to the next."""
    made = subject(name).make_examples(Fill(seed))
    order = data.draw(st.permutations(range(len(made))))
    results = {number: read(name, made[number], offset=at) for at, number in enumerate(order)}
    assert [identities(results[n]) for n in range(len(made))] == [
        identities(read(name, each)) for each in made
    ]


@every_adapter
def test_items_cut_into_other_messages_are_the_same_events(name):
    made = subject(name).examples.make
    rebatch = subject(name).examples.rebatch
    if rebatch is None:
        assert all(len(example.expects) == 1 for example in made(Fill(1))), (
            "examples with several items, no rebatch()"
        )
        return
    for seed in range(20):
        fill = Fill(seed)
        first = sorted(pair for example in made(fill) for pair in identities(read(name, example)))
        again = rebatch(fill)
        assert [example.value for example in again] != [example.value for example in made(fill)]
        assert (
            sorted(pair for example in again for pair in identities(read(name, example))) == first
        )


@every_adapter
def test_no_two_items_of_a_round_are_one_event(name):
    for seed in range(20):
        ids = [
            pair[0]
            for example in subject(name).make_examples(Fill(seed))
            for pair in identities(read(name, example))
        ]
        events = [each for each in ids if each not in RejectCode.__members__]
        assert len(set(events)) == len(events)


@every_adapter
def test_other_amounts_under_the_same_ids_are_no_retry(name):
    """Otherwise a changed bet would pass for its first sending, and a conflict would stay unnoticed."""
    for seed in range(10):
        fill = Fill(seed)
        once, again = (
            subject(name).make_examples(fill),
            subject(name).make_examples(dataclasses.replace(fill, amounts=1)),
        )
        for first, second in zip(once, again, strict=True):
            pairs = zip(identities(read(name, first)), identities(read(name, second)), strict=True)
            for (one, other), expected, changed in zip(
                pairs, first.expects, second.expects, strict=True
            ):
                assert (one == other) == (expected.legs == changed.legs), (first, second)


# --- money in any packing --------------------------------------------------------------------------------------------


@every_adapter
def test_facts_in_another_packing_book_the_same_money_and_mirrors_give_back(name):
    """Joined, split, overlapping, re-ordered, by another version, with placeholders in optional places."""
    check_stories(name, seed=1, stories=6)


@pytest.mark.prove
@every_adapter
def test_many_facts_in_another_packing_book_the_same_money(name):
    check_stories(name, seed=2, stories=60)


def check_stories(name: str, seed: int, stories: int) -> None:
    report = check_packings([routed(name)], seed, stories)
    tally = report.total
    assert report.failures == []
    assert (tally.repacked, tally.is_clean) == (stories, True)
    says = set(writer_of(ADAPTERS[name]).says)
    can_take_back = any(undo in says and says & set(acts) for undo, acts in MIRRORS.items())
    assert bool(tally.mirrored) == can_take_back


# --- signatures -------------------------------------------------------------------------------------------------------


def other_keys(dialect: Dialect) -> dict[str, str]:
    """Key material of another party: valid in form, and not the provider's."""
    examples = examples_of(dialect)
    return dict(examples.other_keys or alter_keys(examples.keys))


@every_adapter
def test_a_signature_of_another_party_is_rejected(name):
    if not subject(name).examples.keys:
        return
    stranger = Normaliser(
        by_provider([ADAPTERS[name]]), {provider(name): other_keys(ADAPTERS[name])}
    )
    signed = 0
    for example in subject(name).make_examples(Fill(1)):
        results = stranger.normalise(record(example, provider(name)))
        whole = len(results) == 1 and len(example.expects) > 1
        for item, expected in zip(
            results, example.expects[:1] if whole else example.expects, strict=True
        ):
            if expected.signature == VALID and expected.code is None:
                assert isinstance(item, RejectedItem), example
                assert item.code is RejectCode.BAD_SIGNATURE
                signed += 1
    assert signed, "the examples' KEYS check nothing"


@every_adapter
def test_without_a_key_nothing_is_checked(name):
    for example in subject(name).make_examples(Fill(1)):
        results = read(name, example, keyed=False)
        assert check_expectations(example, Fill(1), results, NOT_CHECKED) == []


@every_adapter
def test_no_secret_is_shown(name):
    """Secrets that travel inside a body are masked, also in one that was cut off."""
    secrets = [text.encode() for text in subject(name).examples.keys.values()]
    for example in subject(name).make_examples(Fill(1)):
        for value in (
            example.value,
            example.value[: len(example.value) * 2 // 3],
            example.value[:-1],
        ):
            shown = ADAPTERS[name].redact(value)
            assert not [secret for secret in secrets if secret in shown], example.name
        for item in read(name, replace(example, value=example.value[:-1])):
            assert not isinstance(item, RejectedItem) or not [
                s for s in secrets if s.decode() in item.detail
            ]


# --- answers ------------------------------------------------------------------------------------------------------------


def parse_body(reply: Reply) -> object:
    """The body read as its content type says."""
    kind = reply.content_type.partition(";")[0].strip()
    if kind.endswith("json"):
        return json.loads(reply.body)
    if kind.endswith("xml"):
        return etree.fromstring(reply.body)
    if kind == "application/x-www-form-urlencoded":
        return parse_qsl(reply.body.decode(), strict_parsing=True)
    if kind.endswith("avro"):
        return reply.body  # whose schema is the adapter's business, and read by its own test
    assert kind == "text/plain", kind
    return reply.body.decode()


@every_adapter
def test_every_outcome_has_an_answer(name):
    for example in subject(name).make_examples(Fill(1)):
        results = read(name, example)
        for outcome in Outcome:
            for reason in REASONS:
                for knows in (True, False):
                    answer = ADAPTERS[name].answer(
                        record(example, provider(name)),
                        outcomes_for(results, outcome, reason, with_balance=knows),
                    )
                    assert (
                        200 <= answer.status <= 999
                    )  # three digits: 100HP wants its own codes there, 6xx and 702
                    parse_body(answer)


@every_adapter
def test_every_rejection_has_an_answer(name):
    for example in subject(name).make_examples(Fill(1)):
        for code in RejectCode:
            for value in (example.value, b"", b"\xff<{&"):
                request = record(replace(example, value=value), provider(name))
                answer = ADAPTERS[name].answer(
                    request, [Rejected(code, 'a detail <&" that stays inside')]
                )
                assert (
                    200 <= answer.status <= 999
                )  # three digits: 100HP wants its own codes there, 6xx and 702
                parse_body(answer)


def decisions(name: str) -> Iterator[tuple[Example, list[ItemResult]]]:
    """The examples whose provider waits for a decision."""
    for fill in (Fill(1), Fill(2, "JPY"), Fill(3, "KWD"), Fill(4, "BTC")):
        if fill.currency in subject(name).examples.currencies:
            for example in subject(name).make_examples(fill):
                results = read(name, example)
                if any(
                    isinstance(item, AcceptedTransaction) and item.transaction.decision_required
                    for item in results
                ):
                    yield example, results


@every_adapter
def test_a_refusal_is_no_success_and_the_balance_is_exact(name):
    for example, results in decisions(name):
        request = record(example, provider(name))
        assert list(check_answers(subject(name), example, request, results)) == []
        first, second = (
            ADAPTERS[name].answer(request, outcomes_for(results, Outcome.POSTED)) for _ in range(2)
        )
        assert first == second


@every_adapter
def test_no_result_of_a_message_is_left_out_of_its_answer(name):
    for example in subject(name).make_examples(Fill(1)):
        request, results = record(example, provider(name)), read(name, example)
        assert list(check_answers(subject(name), example, request, results)) == []


@pytest.mark.parametrize(
    ("decimals", "currency", "stated"),
    [
        ("minor", "EUR", "12345"),
        ("minor", "JPY", "12345"),
        ("minor", "KWD", "12345"),
        (0, "KWD", "12.345"),
        (2, "EUR", "12345"),
        # A unit that is coarser than the wallet's states less than there is, never more.
        (2, "KWD", "1234"),
        (5, "JPY", "1234500000"),
    ],
)
def test_a_balance_is_expected_in_the_units_of_the_answers(decimals, currency, stated):
    examples = replace(subject(next(iter(ADAPTERS))).examples, balance_decimals=decimals)
    assert examples.balance_in_units(12_345, currency) == Decimal(stated)


# --- any bytes ----------------------------------------------------------------------------------------------------------


def check_any(name: str, example: Example, keyed: bool) -> None:
    results = read(name, example, keyed=keyed)
    assert check_soundness(results) == []
    request = record(example, provider(name))
    parse_body(ADAPTERS[name].answer(request, outcomes_for(results, Outcome.POSTED)))
    assert isinstance(ADAPTERS[name].redact(example.value), bytes)


@every_adapter
@examples(250)
@given(seed=st.integers(0, 2**64), keyed=st.booleans())
def test_a_message_with_anything_wrong_raises_nothing(name, seed, keyed):
    rng = Random(seed)
    made = made_once(name, seed % 16)
    check_any(name, mutate(rng.choice(made), rng.choice(made), rng), keyed)


@every_adapter
@examples(100)
@given(data=st.data(), value=st.binary(max_size=300), keyed=st.booleans())
def test_any_bytes_at_all_raise_nothing(name, data, value, keyed):
    example = data.draw(st.sampled_from(made_once(name, 0)))
    check_any(name, replace(example, value=value), keyed)


@every_adapter
def test_a_large_body_of_nonsense_is_rejected(name):
    example = made_once(name, 0)[0]
    for value in (
        b"[" * 900_000,
        b"<a>" * 300_000,
        b'{"a":' * 180_000,
        b'"' + b"a" * 900_000,
        b"&a=1" * 200_000,
    ):
        check_any(name, replace(example, value=value), False)


@cache
def made_once(name: str, seed: int) -> list[Example]:
    return subject(name).make_examples(Fill(seed))
