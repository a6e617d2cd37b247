"""Times as operators write them: one parser for every `--since`, `--until` and `--at`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pitboss.cli.ledger_balance import TimeOrPlace
from pitboss.cli.main import COMMANDS, cli
from pitboss.cli.option_types import TIME, RenamedOption, Time, period_options
from pitboss.ops.log_positions import is_place
from pitboss.ops.periods import (
    ACCEPTED_TIMES,
    check_period,
    format_time,
    is_within,
    parse_duration_ms,
    parse_time_ms,
)
from schemas.errors import UsageError
from schemas.topics import DAY_MS
from tests.support.command_line import commands

NOW = 1_795_342_530_123  # 2026-11-22T10:15:30.123Z
MIDNIGHT = 1_795_305_600_000
LAST_MS = 253_402_300_799_999  # of the year 9999, the last that can be printed
UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}


def test_the_last_time_can_be_printed():
    with pytest.raises(UsageError, match=r"9999-12-31T23:59:59\.999Z"):
        check_period(LAST_MS, parse_time_ms("9999-12-31T23:59:59-23:59", NOW))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", NOW - 7 * DAY_MS),
        ("-2h", NOW - 7_200_000),
        ("90m", NOW - 5_400_000),
        ("0s", NOW),
        ("2w", NOW - 14 * DAY_MS),
        ("now", NOW),
        ("today", MIDNIGHT),
        ("Yesterday", MIDNIGHT - DAY_MS),
        (" yesterday ", MIDNIGHT - DAY_MS),
        ("2026-11-22", MIDNIGHT),
        ("2026-11-22T10:15:30Z", NOW - 123),
        ("2026-11-22t10:15:30.123z", NOW),
        ("2026-11-22 10:15:30.123456", NOW),
        ("2026-11-22T10:15", NOW - 30_123),
        ("2026-11-22T11:15:30+01:00", NOW - 123),
        ("2026-11-22T04:45:30-05:30", NOW - 123),
        ("99999w", 0),
        ("1969-07-20", 0),
        ("9999-12-31T23:59:59-23:59", LAST_MS),
    ],
)
def test_a_time_has_these_forms(text, expected):
    assert parse_time_ms(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "7", "d", "--1d", "+1d", "7 d", "7y", "1.5h", "tomorrow", "22.11.2026", "2026-11-31"),
        *("2026-13-01", "20261122", "2026-W47", "10:15", "2026-11-22T25:00Z", "2026-11-22T10"),
        *(
            "2026-11-22T10:15:30 UTC",
            "2026-11-22T10:15:30+25:00",
            "1795342530",
            "\u0667d",
            "1" * 99,
        ),
        *("2026-11-22T10:15:60Z", "0000-01-01", "\x00", "7d; DROP"),
    ],
)
def test_another_text_is_refused_with_what_was_read_and_what_is_accepted(text):
    with pytest.raises(UsageError) as refused:
        parse_time_ms(text, NOW)
    assert repr(text) in str(refused.value)
    assert ACCEPTED_TIMES in str(refused.value)


clocks = st.integers(0, 32_503_680_000_000)
offsets = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))


@given(now_ms=clocks, amount=st.integers(0, 99_999), unit=st.sampled_from("smhdw"))
def test_a_time_ago_is_that_long_ago_and_never_before_1970(now_ms, amount, unit):
    expected = max(0, now_ms - amount * UNITS[unit])
    for text in (f"{amount}{unit}", f"-{amount}{unit}"):
        assert parse_time_ms(text, now_ms) == expected


@given(now_ms=clocks)
def test_yesterday_today_and_now_follow_each_other(now_ms):
    today = parse_time_ms("today", now_ms)
    assert today <= now_ms < today + DAY_MS
    assert today % DAY_MS == 0
    assert parse_time_ms("yesterday", now_ms) == today - DAY_MS
    assert parse_time_ms("now", now_ms) == now_ms
    assert parse_time_ms(datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat(), 0) == today


@given(at_ms=clocks, now_ms=clocks)
def test_a_printed_time_is_read_as_itself_whatever_the_clock(at_ms, now_ms):
    assert parse_time_ms(format_time(at_ms), now_ms) == at_ms


@given(
    at=st.datetimes(datetime(1970, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001  # naive bounds
    zone=st.sampled_from(range(-14 * 60, 14 * 60 + 1, 15)),
)
def test_one_moment_is_the_same_in_every_zone(at, zone):
    at = at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
    elsewhere = at.astimezone(timezone(timedelta(minutes=zone)))
    assert parse_time_ms(elsewhere.isoformat(), 0) == parse_time_ms(at.isoformat(), 0)


@given(text=st.text(max_size=40) | st.from_regex(r"[-0-9TZ:+. ]{0,30}", fullmatch=True))
def test_any_text_is_a_time_or_a_usage_error(text):
    try:
        assert parse_time_ms(text, NOW) >= 0
    except UsageError as error:
        assert repr(text) in str(error)  # noqa: PT017  # both ends are allowed


@given(since=st.none() | clocks, until=st.none() | clocks, at=clocks)
def test_since_is_included_and_until_is_not(since, until, at):
    inside = (since is None or at >= since) and (until is None or at < until)
    assert is_within(at, since, until) == inside
    try:
        check_period(since, until)
    except UsageError:
        assert not inside


def test_an_empty_period_is_refused():
    with pytest.raises(UsageError, match=r"2026-11-22T10:15:30.123Z \(included\) is not before"):
        check_period(NOW, NOW)
    check_period(NOW, NOW + 1)


def test_a_duration_has_a_unit():
    assert parse_duration_ms("90s") == 90_000
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration_ms("90")


def echo_period(**names):
    @click.command()
    @period_options(formerly_since="--from")
    def show(since_ms: int | None, until_ms: int | None) -> None:
        click.echo(f"{since_ms} {until_ms}")

    return show


def test_all_times_of_one_invocation_are_of_one_moment(monkeypatch):
    ticks = iter((NOW * 10**6, (NOW + DAY_MS) * 10**6))
    monkeypatch.setattr("pitboss.cli.option_types.time.time_ns", lambda: next(ticks))
    done = CliRunner().invoke(echo_period(), ["--since", "yesterday", "--until", "today"])
    assert done.stdout == f"{MIDNIGHT - DAY_MS} {MIDNIGHT}\n"


def test_a_former_name_works_is_hidden_and_says_its_successor():
    done = CliRunner().invoke(echo_period(), ["--from", "2026-11-22"])
    assert done.stdout == f"{MIDNIGHT} None\n"
    assert done.stderr == "note: --from is deprecated: use --since\n"
    assert CliRunner().invoke(echo_period(), ["--since", "2026-11-22"]).stderr == ""
    both = CliRunner().invoke(echo_period(), ["--from", "now", "--since", "now"])
    assert (both.exit_code, "former name of --since" in both.stderr) == (2, True)
    assert "--from" not in CliRunner().invoke(echo_period(), ["--help"]).stdout


def test_every_option_of_a_time_has_the_one_type():
    names = {"--since", "--until", "--from", "--to", "--at"}
    found = {
        (*path, option)
        for path, command in commands()
        for parameter in command.params
        for option in names.intersection(parameter.opts)
        if isinstance(parameter.type, Time) or pytest.fail(f"{path} {option} is a {parameter.type}")
    }
    assert len(found) >= 12
    assert ("alerts", "list", "--since") in found
    assert ("ledger", "history", "--until") in found
    assert ("ledger", "balance", "--at") in found
    assert {path[0] for path, _ in commands() if path} == set(COMMANDS)


def test_an_option_says_its_name_its_text_and_the_forms():
    done = CliRunner().invoke(cli, ["alerts", "list", "--since", "last week"])
    assert done.exit_code == 2
    assert "'--since': 'last week' is not a time" in done.stderr
    assert ACCEPTED_TIMES in done.stderr


@pytest.mark.parametrize("text", ["17", "3@17", "wallet.transactions.v1-3@17", "ns.a-b.v1-3@17"])
def test_a_place_is_not_converted(text):
    assert is_place(text)
    assert TimeOrPlace().convert(text, None, None) == text


@pytest.mark.parametrize("text", ["2026-11-22", "7d", "x@y", "a-1@", "@1", "a@1", "-1", "1" * 19])
def test_what_is_not_a_place(text):
    assert not is_place(text)


def test_neither_a_time_nor_a_place_says_both():
    with pytest.raises(click.BadParameter, match=r"is not a time.*or a place: TOPIC-PARTITION"):
        TimeOrPlace().convert("nowhere", None, None)


def test_a_renamed_option_may_be_repeated():
    @click.command()
    @click.option("--new", "values", multiple=True, cls=RenamedOption, formerly="--old", type=TIME)
    def show(values: tuple[int, ...]) -> None:
        click.echo(values)

    done = CliRunner().invoke(show, ["--old", "2026-11-22", "--old", "1970-01-02"])
    assert done.stdout == f"({MIDNIGHT}, {DAY_MS})\n"
