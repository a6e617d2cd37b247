"""`--where`: what it means is said once for a row and once for a table, and both say the same."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.columns import decimals
from replay.columns.where import (
    AllOf,
    AnyOf,
    Comparison,
    Expression,
    Not,
    fields_of,
    format_where,
    holds,
    parse_where,
)
from replay.columns.where_mask import check_where, mask_rows
from schemas.errors import UsageError

LEG = pa.struct([("kind", pa.string()), ("amount", decimals.TYPE), ("is_free", pa.bool_())])
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("count", pa.int32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("closed", pa.bool_()),
        ("legs", pa.list_(LEG)),
        ("cause", pa.struct([("actor", pa.string()), ("legs", pa.list_(LEG))])),
        ("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
TEXTS = st.sampled_from(["BET", "WIN", "", "it's", 'a "b"', "é"])
NUMBERS = st.sampled_from(
    [Decimal(0), Decimal("10.50"), Decimal(-3), Decimal("0.000000000000000001")]
)
WHOLE = st.sampled_from([Decimal(0), Decimal(7), Decimal(-3)])
MOMENTS = st.sampled_from(["2026-11-30", "2026-11-30T12:00:00Z", "2026-11-30T12:00:00+02:00"])
LEGS = st.none() | st.lists(
    st.none()
    | st.fixed_dictionaries(
        {
            "kind": st.none() | TEXTS,
            "amount": st.none() | NUMBERS,
            "is_free": st.none() | st.booleans(),
        }
    ),
    max_size=3,
)
ROWS = st.fixed_dictionaries(
    {
        "kind": st.none() | TEXTS,
        "count": st.none() | WHOLE.map(int),
        "at": st.none() | MOMENTS.map(lambda text: datetime.fromisoformat(text).astimezone(UTC)),
        "closed": st.none() | st.booleans(),
        "legs": LEGS,
        "cause": st.none() | st.fixed_dictionaries({"actor": st.none() | TEXTS, "legs": LEGS}),
        "attributes": st.none()
        | st.dictionaries(st.sampled_from(["level", "ip-v4"]), st.none() | TEXTS),
    }
)
TEXT_FIELDS = st.sampled_from(
    [
        ("kind",),
        ("legs", "kind"),
        ("cause", "actor"),
        ("cause", "legs", "kind"),
        ("attributes", "level"),
        ("attributes", "ip-v4"),
    ]
)
BOOLEANS = st.sampled_from([("closed",), ("legs", "is_free"), ("cause", "legs", "is_free")])
AMOUNTS = st.sampled_from([("legs", "amount"), ("cause", "legs", "amount")])
ORDER = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


def comparisons_of(fields, operators, literals) -> st.SearchStrategy[Comparison]:
    return st.builds(Comparison, fields, operators, st.tuples(literals)) | st.builds(
        Comparison, fields, st.just("in"), st.lists(literals, min_size=1, max_size=3).map(tuple)
    )


COMPARISONS = st.one_of(
    comparisons_of(TEXT_FIELDS, ORDER | st.just("contains"), TEXTS),
    comparisons_of(AMOUNTS, ORDER, NUMBERS | WHOLE),
    comparisons_of(st.just(("count",)), ORDER, WHOLE),
    comparisons_of(st.just(("at",)), ORDER, MOMENTS),
    comparisons_of(BOOLEANS, st.sampled_from(["=", "!="]), st.booleans()),
    st.builds(Comparison, BOOLEANS, st.just("true")),
    st.builds(
        Comparison,
        TEXT_FIELDS
        | BOOLEANS
        | AMOUNTS
        | st.sampled_from([("count",), ("at",), ("cause",), ("legs",)]),
        st.just("null"),
    ),
)
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    COMPARISONS,
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(AllOf, st.lists(inner, min_size=2, max_size=3).map(tuple))
        | st.builds(AnyOf, st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=6,
)


@given(EXPRESSIONS, st.lists(ROWS, max_size=8))
def test_a_table_and_a_row_agree(expression: Expression, rows: list[dict[str, Any]]):
    check_where(expression, SCHEMA)
    table = pa.Table.from_pylist(rows, SCHEMA)
    assert mask_rows(expression, table).tolist() == [holds(expression, row) for row in rows]


@given(EXPRESSIONS)
def test_an_expression_is_read_as_it_is_written(expression: Expression):
    text = format_where(expression)
    assert parse_where(text) == expression
    assert set(fields_of(expression)) == set(fields_of(parse_where(text)))


@given(st.text(max_size=60) | st.text("()'\"andortin.<>=! 12", max_size=40))
def test_any_text_is_an_expression_or_a_usage_error(text: str):
    try:
        expression = parse_where(text)
    except UsageError:
        return
    assert parse_where(format_where(expression)) == expression


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kindd = 'BET'", "did you mean 'kind'"),
        ("legs.knd = 'BET'", "did you mean 'legs.kind'"),
        ("kind = 3", "is a text"),
        ("count = 1.5", "is not compared"),
        ("at > 'soon'", "is a time"),
        ("legs", "is not true or false"),
        ("closed > true", "have no order"),
        ("count contains '1'", "is not a text"),
        ("legs.amount = 0.0000000000000000001", "is not compared"),
        ("kind.of = 'x'", "the topic has no field 'kind.of'"),
        ("__class__ = 'x'", "the topic has no field"),
    ],
)
def test_what_a_table_cannot_answer_is_refused_with_its_reason(text, message):
    with pytest.raises(UsageError, match=message):
        check_where(parse_where(text), SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kind =",
        "kind = 'x' 'y'",
        "(kind = 'x'",
        "kind in ()",
        "open('x')",
        "1 = 1",
        "kind = x",
        "(" * 2000 + "closed" + ")" * 2000,
        "not " * 500 + "closed",
        "closed or " * 2000,
    ],
)
def test_what_is_not_an_expression_is_refused(text):
    with pytest.raises(UsageError, match="--where"):
        parse_where(text)
