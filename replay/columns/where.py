"""A small, safe expression over the fields of an event, for `--where`.

    kind = 'BET' and not (legs.currency in ('EUR', 'USD') or legs.amount < 10.50)
    attributes.level contains 'gold' and cause is null and occurred_at >= '2026-11-30T12:00:00Z'

Operators, weakest first: `or`, `and`, `not`, then one of `= != < <= > >= in contains is null
is not null` between a field and literals. A field alone is a test of a boolean. A dot reaches into
a record, a map or the items of a list; of a list any item may satisfy the test. A missing value
satisfies `is null` only. There is nothing to call and nothing to name but fields.

This module parses and evaluates one row; `where_mask` evaluates whole tables and says the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal, NoReturn, TypeAlias, get_args

from schemas.errors import UsageError

LiteralValue: TypeAlias = str | Decimal | bool
Operator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains", "null", "true"]

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<number>[+-]?\d+(?:\.\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+)*)
      | (?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,)
    )""",
    re.VERBOSE,
)
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "is", "null", "contains", "true", "false"})
_DEPTH_MAX: Final = 50
_LENGTH_MAX: Final = 10_000
_COMPARISONS: Final = frozenset({"=", "!=", "<", "<=", ">", ">="})


@dataclass(frozen=True)
class Comparison:
    """One test of a field: a field's path, an operator, and the literals behind it."""

    path: tuple[str, ...]
    operator: Operator
    literals: tuple[LiteralValue, ...] = ()


@dataclass(frozen=True)
class Not:
    """The opposite of an expression."""

    inner: Expression


@dataclass(frozen=True)
class AllOf:
    """An expression that holds where all of its parts do."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class AnyOf:
    """An expression that holds where one of its parts does."""

    parts: tuple[Expression, ...]


Expression: TypeAlias = Comparison | Not | AllOf | AnyOf


def parse_where(text: str) -> Expression:
    """Parse an expression. Raises UsageError, which shows where it is wrong."""
    if len(text) > _LENGTH_MAX:
        raise UsageError(f"--where has {len(text):,} characters: at most {_LENGTH_MAX:,} are read")
    parser = _Parser(text)
    expression = parser.parse_or(0)
    parser.expect_end()
    return expression


def format_where(expression: Expression) -> str:  # noqa: PLR0911 - one return for each case
    """Return an expression as text that parses to the same expression."""
    match expression:
        case Not(inner):
            return f"not ({format_where(inner)})"
        case AllOf(parts):
            return " and ".join(f"({format_where(part)})" for part in parts)
        case AnyOf(parts):
            return " or ".join(f"({format_where(part)})" for part in parts)
    path, literals = ".".join(expression.path), [_format(one) for one in expression.literals]
    match expression.operator:
        case "null":
            return f"{path} is null"
        case "true":
            return path
        case "in":
            return f"{path} in ({', '.join(literals)})"
    return f"{path} {expression.operator} {literals[0]}"


def _format(literal: LiteralValue) -> str:
    if isinstance(literal, bool):
        return "true" if literal else "false"
    if isinstance(literal, Decimal):
        return f"{literal:f}"
    return "'" + literal.replace("'", "''") + "'"


def fields_of(expression: Expression) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the fields that an expression tests."""
    match expression:
        case Comparison():
            yield expression.path
        case Not(inner):
            yield from fields_of(inner)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from fields_of(part)


def holds(expression: Expression, row: Mapping[str, Any]) -> bool:
    """Return whether an expression holds for a row.

    Records and maps are dicts, lists are lists, amounts Decimal, times datetime. A literal of a
    type that the field does not have never matches; `where_mask` refuses it.
    """
    match expression:
        case Not(inner):
            return not holds(inner, row)
        case AllOf(parts):
            return all(holds(part, row) for part in parts)
        case AnyOf(parts):
            return any(holds(part, row) for part in parts)
    return any(_satisfies(expression, value) for value in _reach(row, expression.path))


def _reach(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _reach(item, path)
    elif not path or value is None:
        yield value
    elif isinstance(value, Mapping):
        yield from _reach(value.get(path[0]), path[1:])


def _satisfies(test: Comparison, value: Any) -> bool:
    if test.operator == "null" or value is None:
        return test.operator == "null" and value is None
    if test.operator == "true":
        return value is True
    return any(_compare(test.operator, value, literal) for literal in test.literals)


def _compare(operator: Operator, value: Any, literal: LiteralValue) -> bool:  # noqa: PLR0911 - one return for each operator
    other: Any = parse_moment(str(literal)) if isinstance(value, datetime) else literal
    if isinstance(value, bool) != isinstance(other, bool) or other is None:
        return False
    match operator:
        case "=" | "in":
            return bool(value == other)
        case "!=":
            return bool(value != other)
        case "contains":
            return str(other) in str(value)
        case "<":
            return bool(value < other)
        case "<=":
            return bool(value <= other)
        case ">":
            return bool(value > other)
    return bool(value >= other)


def parse_moment(text: str) -> datetime | None:
    """Parse a time of RFC 3339, or a date; UTC where no offset is given. None for another text."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        while place < len(text.rstrip()):
            match = _TOKEN.match(text, place)
            if match is None:
                self._fail(place + len(text[place:]) - len(text[place:].lstrip()))
            assert match.lastgroup is not None
            token = match[match.lastgroup]
            self._tokens.append((match.lastgroup, token, match.start(match.lastgroup)))
            place = match.end()
        self._next = 0

    def parse_or(self, depth: int) -> Expression:
        if depth > _DEPTH_MAX:
            raise UsageError(f"--where is nested more than {_DEPTH_MAX} deep")
        parts = [self._parse_and(depth)]
        while self._take_word("or"):
            parts.append(self._parse_and(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def expect_end(self) -> None:
        if self._next < len(self._tokens):
            self._fail(self._tokens[self._next][2])

    def _parse_and(self, depth: int) -> Expression:
        parts = [self._parse_not(depth)]
        while self._take_word("and"):
            parts.append(self._parse_not(depth))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _parse_not(self, depth: int) -> Expression:
        count = 0
        while self._take_word("not"):
            count += 1
        if self._take_sign("("):
            inner = self.parse_or(depth + 1)
            self._expect_sign(")")
        else:
            inner = self._parse_test()
        if count > _DEPTH_MAX:
            raise UsageError(f"--where is nested more than {_DEPTH_MAX} deep")
        for _ in range(count):
            inner = Not(inner)
        return inner

    def _parse_test(self) -> Expression:
        kind, token, place = self._peek()
        if kind != "word" or token.lower() in _KEYWORDS:
            self._fail(place)
        self._next += 1
        path = tuple(token.split("."))
        kind, token, _ = self._peek()
        sign = token.replace("<>", "!=")
        if kind == "sign" and sign in _COMPARISONS:
            self._next += 1
            return Comparison(path, _operator(sign), (self._parse_literal(),))
        if self._take_word("contains"):
            return Comparison(path, "contains", (self._parse_literal(),))
        if self._take_word("is"):
            is_negated = self._take_word("not")
            self._expect_word("null")
            test = Comparison(path, "null")
            return Not(test) if is_negated else test
        if self._take_word("not"):
            self._expect_word("in")
            return Not(self._parse_in(path))
        if self._take_word("in"):
            return self._parse_in(path)
        return Comparison(path, "true")

    def _parse_in(self, path: tuple[str, ...]) -> Comparison:
        self._expect_sign("(")
        literals = [self._parse_literal()]
        while self._take_sign(","):
            literals.append(self._parse_literal())
        self._expect_sign(")")
        return Comparison(path, "in", tuple(literals))

    def _parse_literal(self) -> LiteralValue:
        kind, token, place = self._peek()
        self._next += 1
        if kind == "text":
            return token[1:-1].replace(token[0] * 2, token[0])
        if kind == "number":
            return Decimal(token)
        if token.lower() in {"true", "false"}:
            return token.lower() == "true"
        self._fail(place)
        return None

    def _peek(self) -> tuple[str, str, int]:
        if self._next < len(self._tokens):
            return self._tokens[self._next]
        return "end", "", len(self._text)

    def _take_word(self, word: str) -> bool:
        kind, token, _ = self._peek()
        is_there = kind == "word" and token.lower() == word
        self._next += is_there
        return is_there

    def _take_sign(self, sign: str) -> bool:
        kind, token, _ = self._peek()
        is_there = kind == "sign" and token == sign
        self._next += is_there
        return is_there

    def _expect_word(self, word: str) -> None:
        if not self._take_word(word):
            self._fail(self._peek()[2], word)

    def _expect_sign(self, sign: str) -> None:
        if not self._take_sign(sign):
            self._fail(self._peek()[2], sign)

    def _fail(self, place: int, wanted: str | None = None) -> NoReturn:
        there = self._text[place : place + 20]
        found = f"{there!r}" if there else "its end"
        expected = "a field, a text in quotes or a number" if wanted is None else repr(wanted)
        raise UsageError(
            f"--where {self._text!r}: {expected} is expected at character {place + 1}, not {found};"
            " write it as in \"operation = 'bet' and legs.amount > 10\""
        )


def _operator(sign: str) -> Operator:
    for operator in get_args(Operator):
        if operator == sign:
            found: Operator = operator
            return found
    raise AssertionError(sign)
