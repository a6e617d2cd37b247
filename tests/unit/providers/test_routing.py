"""Versions side by side: which one reads a record, and that nothing is lost where the expected one cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, Leg
from schemas.topics import TRANSACTIONS
from streams.normalise.batch import NormalisedBatch
from streams.normalise.mapping.normaliser import (
    AcceptedTransaction,
    ItemResult,
    Normaliser,
    RejectedItem,
)
from streams.normalise.stats import NormaliseStats
from streams.providers.answers import Answers
from streams.providers.dialect import Dialect, Draft, Headers, Item, KeyMaterial, Reader, Reply
from streams.providers.fields import epoch_ms
from streams.providers.registry import Dialects, Version, dialect_of
from streams.providers.routing import STRUCTURAL, Fallback, ProviderRouter
from streams.providers.versions import VersionRow, VersionState, read_rows
from tests.support.dialect_records import raw_record

RENAMING = Path(__file__).parents[2] / "renaming"
DECEMBER = epoch_ms(datetime(2026, 12, 1, tzinfo=UTC))
KEYS = {"acme": {"secret": "s3cret"}}
SIGNED = {"x-secret": "s3cret"}


def dialects_of(file: str) -> Dialects:
    rows = read_rows((RENAMING / file).read_text(), file)
    return Dialects(lambda: rows, dialect_of)


def body(word: str, **fields: Any) -> bytes:
    return json.dumps(
        {word: {"id": "t-1", "player": "p-1", "amount": "1.50", "currency": "EUR"} | fields}
    ).encode()


def one(results: list[ItemResult]) -> AcceptedTransaction:
    [item] = results
    assert isinstance(item, AcceptedTransaction), item
    return item


OLD, NEW = body("balance_update"), body("funds_update")


# --- balance_update becomes funds_update ------------------------------------------------------------------------------


def test_a_rename_is_one_adapter_file_and_one_row() -> None:
    before, after = ((RENAMING / name).read_text() for name in ("before.toml", "after.toml"))
    assert after.startswith(before)
    assert after[len(before) :].count("[[version]]") == 1
    assert {path.name for path in RENAMING.glob("*.py")} - {"__init__.py", "acme.py"} == {
        "acme_v2.py"
    }
    # Before, the new word cannot be read; after, both can, and no other line of the project knows of either.
    [dead] = Normaliser(dialects_of("before.toml"), KEYS).normalise(raw_record("acme", NEW, SIGNED))
    assert isinstance(dead, RejectedItem)
    assert dead.code is RejectCode.MISSING_FIELD
    both = Normaliser(dialects_of("after.toml"), KEYS)
    for value in (OLD, NEW):
        one(both.normalise(raw_record("acme", value, SIGNED)))


@pytest.mark.parametrize(
    ("value", "timestamp", "read_as", "fallback"),
    [
        (OLD, DECEMBER - 1, "1", None),
        (NEW, DECEMBER, "2", None),
        # A provider that switches early, and one that sends an old retry after the switch.
        (NEW, DECEMBER - 1, "2", "1"),
        (OLD, DECEMBER, "1", "2"),
    ],
)
def test_each_side_of_the_day_reads_both_words(
    value: bytes, timestamp: int, read_as: str, fallback: str | None
) -> None:
    normaliser = Normaliser(dialects_of("after.toml"), KEYS)
    item = one(normaliser.normalise(raw_record("acme", value, SIGNED, timestamp=timestamp)))
    assert item.transaction.provider_version == read_as
    assert item.transaction.signature == "VALID"
    if fallback is None:
        assert item.fallback is None
    else:
        assert item.fallback is not None
        assert (item.fallback.expected, item.fallback.used) == (fallback, read_as)
        assert item.fallback.code is RejectCode.MISSING_FIELD


def test_the_day_is_that_of_receipt_where_the_connector_tells_it() -> None:
    normaliser = Normaliser(dialects_of("after.toml"), KEYS)
    headers = SIGNED | {"received-at": str(DECEMBER - 1)}
    item = one(normaliser.normalise(raw_record("acme", OLD, headers, timestamp=DECEMBER + 60_000)))
    assert (item.transaction.provider_version, item.fallback) == ("1", None)


def test_a_retry_across_the_switch_is_the_same_event() -> None:
    normaliser = Normaliser(dialects_of("after.toml"), KEYS)
    first, again = (
        one(normaliser.normalise(raw_record("acme", value, SIGNED, timestamp=DECEMBER))).transaction
        for value in (OLD, NEW)
    )
    assert first.provider_version != again.provider_version
    assert (first.event_id, first.fingerprint) == (again.event_id, again.fingerprint)


def test_fallbacks_are_counted_and_reported_off_the_path() -> None:
    normaliser = Normaliser(dialects_of("after.toml"), KEYS)
    batch, stats = NormalisedBatch("acme"), NormaliseStats()
    for offset, value in enumerate((OLD, NEW, NEW, b"{")):
        record = raw_record("acme", value, SIGNED, timestamp=DECEMBER - 1, offset=offset)
        batch.add_results([(record, normaliser.normalise(record))])
    assert [
        (fell.record.offset, fell.provider, fell.fallback.used) for fell in batch.fallbacks
    ] == [
        (1, "acme", "2"),
        (2, "acme", "2"),
    ]
    batch.count_into(stats)
    assert stats.versions == {("acme", "1"): 1, ("acme", "2"): 2}
    assert stats.fallbacks == {("acme", "1", "2"): 2}
    assert (stats.records, stats.sent, stats.rejected) == (4, {TRANSACTIONS: 3}, {"MALFORMED": 1})


# --- what is not a question of structure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [OLD, NEW])
@pytest.mark.parametrize("headers", [{}, {"x-secret": "guess"}])
def test_a_wrong_signature_asks_no_other_version(value: bytes, headers: Mapping[str, str]) -> None:
    [item] = Normaliser(dialects_of("after.toml"), KEYS).normalise(
        raw_record("acme", value, headers)
    )
    assert isinstance(item, RejectedItem)
    assert item.code is RejectCode.BAD_SIGNATURE


def test_a_version_that_checks_nothing_is_no_way_round_one_that_does() -> None:
    row: dict[str, Any] = {"provider": "acme", "state": "live", "source": "x"}
    rows = [
        VersionRow(**row, version="2", adapter="tests.renaming.acme_v2:AcmeV2"),
        VersionRow(
            **row,
            version="1",
            adapter="tests.renaming.acme:Acme",
            settings={"checks": False},
            header="x-old",
        ),
    ]
    dialects = Dialects(lambda: rows, dialect_of)
    [item] = Normaliser(dialects, KEYS).normalise(raw_record("acme", OLD, SIGNED))
    assert isinstance(item, RejectedItem)
    assert item.code is RejectCode.MISSING_FIELD
    one(
        Normaliser(dialects, {}).normalise(raw_record("acme", OLD, SIGNED))
    )  # no checks are configured


def test_what_no_version_can_read_is_rejected_as_the_expected_one_says() -> None:
    [item] = Normaliser(dialects_of("after.toml"), KEYS).normalise(
        raw_record("acme", body("money_update"), SIGNED, timestamp=DECEMBER)
    )
    assert isinstance(item, RejectedItem)
    assert "funds_update" in item.detail


def test_an_amount_that_no_wallet_can_hold_is_no_question_of_structure() -> None:
    assert STRUCTURAL.isdisjoint(
        {RejectCode.AMOUNT_SCALE, RejectCode.BAD_CURRENCY, RejectCode.TOO_LARGE}
    )
    assert STRUCTURAL.isdisjoint({RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE})


# --- by what a record is known ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scripted(Dialect):
    """Gives for each value what the script of its version says."""

    provider = "acme"
    version = "1"
    script: tuple[tuple[bytes, tuple[Any, ...]], ...] = ()

    def reader(self, material: KeyMaterial | None) -> Reader:
        def read(record: RawRecord, headers: Headers) -> list[Item]:
            results = dict(self.script).get(record.value or b"", (RejectCode.MALFORMED,))
            if results and results[0] == "raise":
                raise Rejected(results[1], "no")
            return [item(one) for one in results]

        return read


def item(result: Any) -> Item:
    if isinstance(result, type):
        raise result
    if isinstance(result, RejectCode):
        return Rejected(result, "no")
    return Draft(
        "op", result, [Leg(Kind.WIN)], "p-1", None, None, False, None, None, False, "NOT_CHECKED"
    )


def router(*versions: tuple[dict[str, Any], dict[bytes, tuple[Any, ...]]]) -> ProviderRouter:
    made = []
    for number, (fields, script) in enumerate(versions, 1):
        row = VersionRow(
            **(
                {
                    "provider": "acme",
                    "version": str(number),
                    "adapter": "x:Y",
                    "state": VersionState.LIVE,
                    "source": "x",
                }
                | fields
            )
        )
        made.append(Version(row, Scripted(script=tuple(script.items()))))
    return ProviderRouter(made, None)


def expected_version(
    one: ProviderRouter, value: bytes = b"x", timestamp: int = DECEMBER, **headers: str
) -> str:
    record = raw_record(
        "acme",
        value,
        {name.replace("_", "-"): text for name, text in headers.items()},
        timestamp=timestamp,
    )
    return one.expected_reader(record, dict(record.headers)).version


def test_a_header_by_its_value_or_by_being_there() -> None:
    versions = router(({}, {}), ({"header": "x-api=2"}, {}), ({"header": "x-beta"}, {}))
    assert expected_version(versions) == "1"
    assert expected_version(versions, x_api="2") == "2"
    assert expected_version(versions, x_api="20") == "1"
    assert expected_version(versions, x_beta="") == "3"


def test_a_path_and_a_text_of_the_content() -> None:
    versions = router(({}, {}), ({"path": "^/v2/"}, {}), ({"content": '"api":3'}, {}))
    assert expected_version(versions, http_path="/v1/bet") == "1"
    assert expected_version(versions, http_path="/v2/bet") == "2"
    assert expected_version(versions, http_path="/x/v2/") == "1"
    assert expected_version(versions, b'{"api":3}') == "3"


def test_the_closest_description_wins_and_all_of_it_must_fit() -> None:
    both = {"path": "/v2/", "header": "x-api=2"}
    versions = router(({}, {}), ({"path": "/v2/"}, {}), (both, {}))
    assert expected_version(versions, http_path="/v2/") == "2"
    assert expected_version(versions, http_path="/v2/", x_api="2") == "3"
    assert expected_version(versions, x_api="2") == "1"


def test_the_latest_day_that_has_come() -> None:
    versions = router(
        ({}, {}), ({"from_": date(2026, 12, 1)}, {}), ({"from_": date(2027, 1, 1)}, {})
    )
    assert [
        expected_version(versions, timestamp=DECEMBER + ms)
        for ms in (-1, 0, 31 * 86_400_000 - 1, 31 * 86_400_000)
    ] == ["1", "2", "2", "3"]


def test_what_fits_no_row_is_read_as_the_current_version() -> None:
    versions = router(
        ({"path": "/v1/", "state": VersionState.DEPRECATED}, {}), ({"path": "/v2/"}, {})
    )
    assert expected_version(versions, http_path="/v3/") == "2"


# --- the chain --------------------------------------------------------------------------------------------------------


def draft_of(item: Item) -> Draft:
    assert isinstance(item, Draft)
    return item


def read(one: ProviderRouter, value: bytes) -> tuple[list[str], dict[int, tuple[str, str, str]]]:
    record = raw_record("acme", value)
    reading = one.read(record, dict(record.headers))
    results = [
        item.reason if isinstance(item, Rejected) else draft_of(item).provider_tx_id
        for item in reading.items
    ]
    return results, {
        n: (f.expected, f.used, v.version) for n, (v, f) in reading.fallbacks_by_index.items()
    }


NEWEST = {"from_": date(2026, 1, 1)}


def test_versions_are_tried_in_the_order_of_the_row() -> None:
    scripts = {b"a": ("from-1",)}, {b"a": ("from-2",)}
    for order, used in ((("1", "2"), "1"), (("2", "1"), "2")):
        versions = router(
            ({}, scripts[0]), ({"path": "x"}, scripts[1]), (NEWEST | {"fallback": order}, {})
        )
        assert read(versions, b"a") == ([f"from-{used}"], {0: ("3", used, used)})


def test_no_version_is_tried_where_the_row_forbids_it() -> None:
    versions = router(({}, {b"a": ("from-1",)}), (NEWEST | {"fallback": ()}, {}))
    assert read(versions, b"a") == ([RejectCode.MALFORMED], {})


@pytest.mark.parametrize("code", sorted(set(RejectCode) - STRUCTURAL))
def test_other_rejections_are_final(code: RejectCode) -> None:
    versions = router(
        ({}, {b"a": ("from-1",), b"b": ("from-1",)}),
        (NEWEST, {b"a": ("raise", code), b"b": (code,)}),
    )
    assert read(versions, b"b") == ([code], {})
    with pytest.raises(Rejected) as rejection:
        read(versions, b"a")
    assert rejection.value.reason is code


def test_only_the_broken_items_of_a_batch_fall_back() -> None:
    new = {b"a": ("n-0", RejectCode.BAD_FIELD, RejectCode.BAD_SIGNATURE, RejectCode.BAD_TIME)}
    old = {b"a": ("o-0", "o-1", "o-2", RejectCode.BAD_TIME)}
    results, fallbacks = read(router(({}, old), (NEWEST, new)), b"a")
    assert results == ["n-0", "o-1", RejectCode.BAD_SIGNATURE, RejectCode.BAD_TIME]
    assert fallbacks == {1: ("2", "1", "1")}


def test_a_version_that_counts_other_items_mends_nothing() -> None:
    versions = router(
        ({}, {b"a": ("o-0", "o-1", "o-2")}), (NEWEST, {b"a": ("n-0", RejectCode.BAD_FIELD)})
    )
    assert read(versions, b"a") == (["n-0", RejectCode.BAD_FIELD], {})


def test_a_version_that_can_read_nothing_of_it_is_no_fallback() -> None:
    versions = router(
        ({}, {b"a": ("from-1", RejectCode.BAD_TIME)}),
        ({"path": "x"}, {b"a": (RejectCode.BAD_FIELD, RejectCode.BAD_FIELD)}),
        (NEWEST | {"fallback": ("2", "1")}, {b"a": ("raise", RejectCode.UNKNOWN_OPERATION)}),
    )
    results, fallbacks = read(versions, b"a")
    assert results == ["from-1", RejectCode.BAD_TIME]
    assert set(fallbacks.values()) == {("3", "1", "1")}


@pytest.mark.parametrize(
    ("item", "left"),
    [
        (("n-0", RejectCode.BAD_FIELD), ["n-0", RejectCode.BAD_FIELD]),
        (("raise", RejectCode.BAD_FIELD), None),
    ],
)
def test_a_mistake_in_another_version_costs_nothing_that_was_read(item: Any, left: Any) -> None:
    versions = router(({}, {b"a": (ZeroDivisionError,)}), (NEWEST, {b"a": item}))
    if left is not None:
        assert read(versions, b"a") == (left, {})
    else:
        with pytest.raises(Rejected):
            read(versions, b"a")


def test_a_fallback_says_why_it_was_one() -> None:
    versions = router(({}, {b"a": ("from-1",)}), (NEWEST, {b"a": ("raise", RejectCode.BAD_AMOUNT)}))
    reading = versions.read(raw_record("acme", b"a"), {})
    assert reading.fallbacks_by_index[0][1] == Fallback("2", "1", RejectCode.BAD_AMOUNT, "no")
    assert reading.reader.version == "2"


@pytest.mark.parametrize(
    ("value", "version"),
    [
        (b'{"v":"2025-03-31.basil"}', "2"),
        (b'{"a":{"v":"1"},"v":"2025-03-31"}', "2"),
        (b'{"v":"2025-02-24.acacia"}', "1"),
        (b'{"a":{"v":"2026-01-01"}}', "1"),
        (b'{"a":"\\"v\\":\\"2026-01-01\\""}', "1"),
        (b'{"v":null}', "1"),
        (b'{"v":20260101}', "1"),
        (b"[]", "1"),
        (b'{"v":"2026', "1"),
        (b"\xff", "1"),
        (b"", "1"),
        (b'{"v":' + b"[" * 100_000, "1"),
    ],
)
def test_a_member_of_the_body_chooses_the_version(value: bytes, version: str) -> None:
    versions = router(({}, {}), ({"member": "v>=2025-03-31"}, {}))
    assert versions.expected_reader(raw_record("acme", value), {}).version == version


BASIL, ACACIA = b'"v":"2025-03-31.basil"', b'"v":"2024-06-20"'
HEADS = [
    (b'{"id":"e","v":"2025-03-31.basil","n":1,"d":{"v":"2024-06-20"}}', "2"),
    (b"{%b}" % BASIL, "2"),
    (b"{%b}" % ACACIA, "1"),
    (b"{%b,%b}" % (BASIL, ACACIA), "1"),
    (b"{%b,%b}" % (ACACIA, BASIL), "2"),
    (b'{"d":{%b}}' % BASIL, "1"),
    (b'{"d":{%b},%b}' % (ACACIA, BASIL), "2"),
    (b'{"d":{},%b}' % BASIL, "2"),
    (b'{"x":"{",%b}' % BASIL, "2"),
    (b'{"x":"v",%b}' % ACACIA, "1"),
    (b'{"x":["v"],"\\u0076":"2026-01-01"}', "2"),
    (b'{"v":"2025-03-31.%b"}' % (b"x" * 100), "2"),
    (b'{"v":"2024-\\u0030"}', "1"),
    # The second and what follows it is not JSON: no version can read it, so either may reject it, but
    # what is kept of it must not decide the next one.
    (b'{%b,"n":1234567890,"type":"payout.paid","data":1}' % BASIL, "2"),
    (b'{%b,"n":1234567890,"type":"payout.paid","data":' % BASIL, "1 or 2"),
    (b"{%b" % BASIL, "1 or 2"),
    (b"{%b}}" % BASIL, "1 or 2"),
]


def test_a_look_at_the_bytes_chooses_as_a_parse_does_whatever_came_before() -> None:
    """In every order of two: what is kept of one record must not decide another's."""
    scripts = [{value: (f"{value!r} by {n}",) for value, _ in HEADS} for n in (1, 2)]
    for first, _ in HEADS:
        for second, expected in HEADS:
            versions = router(({}, scripts[0]), ({"member": "v>=2025-03-31"}, scripts[1]))
            for value in (first, second, first, second):
                record = raw_record("acme", value)
                reader, items, fallbacks_by_index = versions.read_plainly(record, {})
                assert (reader, items, fallbacks_by_index) == versions.read(record, {})
            assert reader.version in expected, (first, second)


def test_what_the_look_reads_wrongly_is_read_as_ever() -> None:
    value = b'{"v":"2025-03-31"}'
    scripts = ({value: ("one",)}, {value: ("raise", RejectCode.BAD_AMOUNT)})
    versions = router(({}, scripts[0]), ({"member": "v>=2025-03-31"}, scripts[1]))
    record = raw_record("acme", value)
    for _ in range(2):
        reader, _, fallbacks_by_index = versions.read_plainly(record, {})
        assert (reader.version, fallbacks_by_index[0][0].version) == ("2", "1")


def test_few_heads_are_kept() -> None:
    versions = router(({}, {}), ({"member": "v>=2025-03-31"}, {}))
    for number in range(1_000):
        value = b'{"v":"2025-03-31.%d"}' % number
        assert versions.expected_reader(raw_record("acme", value), {}).version == "2"
    assert versions._heads is not None
    assert 0 < len(versions._heads.known) <= 256


def test_with_one_version_nothing_is_matched() -> None:
    assert router(({}, {})).only_version is not None
    assert router(({}, {}), (NEWEST, {})).only_version is None


# --- the answer -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answering(Scripted):
    """Answers with the version that it is."""

    name: str = ""

    def answer(self, request: RawRecord, results: Any) -> Reply:
        return Reply(200, "text/plain", self.name.encode())


def answers(*scripts: dict[bytes, tuple[Any, ...]]) -> Answers:
    rows = [
        VersionRow(
            provider="acme",
            version=str(n),
            adapter="x:Y",
            state=VersionState.LIVE,
            source="x",
            from_=date(2026, 1, n),
        )
        for n in range(1, len(scripts) + 1)
    ]
    made = {
        row.version: Answering(script=tuple(script.items()), name=row.version)
        for row, script in zip(rows, scripts, strict=True)
    }
    return Answers(Dialects(lambda: rows, lambda row: made[row.version]))


@pytest.mark.parametrize(
    ("value", "version"), [(b"new", b"2"), (b"old", b"1"), (b"nobody's", b"2"), (b"", b"2")]
)
def test_a_provider_hears_the_version_that_it_spoke(value: bytes, version: bytes) -> None:
    both = answers({b"old": ("t",)}, {b"new": ("t",)})
    assert (
        both.answer(raw_record("acme", value), [Rejected(RejectCode.MALFORMED, "")]).body == version
    )


def test_a_record_with_a_bad_header_is_answered() -> None:
    both = answers({b"old": ("t",)}, {b"new": ("t",)})
    record = raw_record("acme", b"old", {"received-at": "soon"})
    assert both.answer(record, [Rejected(RejectCode.BAD_TIME, "")]).body == b"2"


def test_one_version_answers_whatever_it_was() -> None:
    assert (
        answers({}).answer(raw_record("acme", b"x"), [Rejected(RejectCode.MALFORMED, "")]).body
        == b"1"
    )


@pytest.mark.parametrize("topic", ["provider.nobody.raw.v1", "wallet.outcomes.v1"])
def test_an_unknown_provider_has_no_answer(topic: str) -> None:
    with pytest.raises(Rejected) as rejection:
        answers({}).answer(raw_record("acme", b"x", topic=topic), [])
    assert rejection.value.reason is RejectCode.UNKNOWN_PROVIDER


# --- whatever the versions make of it ---------------------------------------------------------------------------------

ITEMS = st.sampled_from(["t-0", "t-1", *sorted(RejectCode)])
SCRIPT = st.lists(ITEMS, min_size=1, max_size=3).map(tuple) | st.sampled_from(
    sorted(RejectCode)
).map(lambda c: ("raise", c))


@given(st.lists(SCRIPT, min_size=1, max_size=4))
def test_nothing_that_some_version_can_read_is_lost_and_nothing_that_was_read_changes(
    scripts: list[Any],
) -> None:
    made = [({"from_": date(2026, 1, n)}, {b"a": script}) for n, script in enumerate(scripts, 1)]
    first, *others = reversed(scripts)
    broken_whole = first[0] == "raise"
    if broken_whole and (
        first[1] not in STRUCTURAL or not any(is_read(one) for other in others for one in other)
    ):
        with pytest.raises(Rejected) as rejection:
            read(router(*made), b"a")
        assert rejection.value.reason is first[1]
        return
    results, fallbacks = read(router(*made), b"a")
    if broken_whole:
        used = next(other for other in others if any(map(is_read, other)))
        assert results == list(used)
        assert set(fallbacks) == set(range(len(used)))
        return
    for index, one in enumerate(first):
        candidates = [
            other[index] for other in others if other[0] != "raise" and len(other) == len(first)
        ]
        by_fallback = next((other for other in candidates if is_read(other)), None)
        if one in STRUCTURAL and by_fallback is not None:
            assert (results[index], index in fallbacks) == (by_fallback, True)
        else:
            assert (results[index], index in fallbacks) == (one, False)


def is_read(result: Any) -> bool:
    return isinstance(result, str) and result.startswith("t-")
