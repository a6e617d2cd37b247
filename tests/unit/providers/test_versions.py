"""The version registry: rows that can be used, and mistakes that are said with their row."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import msgspec
import pytest

from schemas.errors import UsageError
from schemas.policies import CARD_POLICY
from schemas.topics import catalogue, raw_topic
from streams.providers.adyen import Adyen
from streams.providers.registry import (
    DIALECTS,
    Dialects,
    dialect_of,
    policies,
    redact,
    released_rows,
)
from streams.providers.versions import (
    VersionRow,
    VersionState,
    current_row,
    fallbacks,
    read_rows,
    sort_by_preference,
)

ROW = {
    "provider": "acme",
    "version": "1",
    "adapter": "streams.providers.adyen:Adyen",
    "state": "live",
    "source": "a letter",
}


def toml(*rows: dict[str, str]) -> str:
    """Rows of TOML; a value stands as it is written there, texts of `ROW` quoted."""
    lines = []
    for row in rows:
        lines.append("[[version]]")
        lines += [
            f"{name} = {value}"
            for name, value in ({k: f'"{v}"' for k, v in ROW.items()} | row).items()
        ]
    return "\n".join(lines)


def row(**fields) -> VersionRow:
    return VersionRow(**(ROW | {"state": VersionState.LIVE} | fields))


def test_a_row_says_all_that_there_is_to_say() -> None:
    [read] = read_rows(
        toml(
            {
                "announced_on": "2026-01-02",
                "live_on": "2026-02-01",
                "deprecated_on": "2026-11-01",
                "retires_on": "2026-12-22",
                "settings": "{ accept_test = true }",
                "header": '"x-api-version=2"',
                "path": "'^/v2/'",
                "content": "'\"api\":2'",
                "member": '"api_version>=2026"',
                "from": "2026-02-01",
                "fallback": "[]",
            }
        ),
        "test.toml",
    )
    assert (read.name, read.state, read.source) == ("acme 1", "live", "a letter")
    assert read.keys == ("x-api-version=2", "^/v2/", '"api":2', "api_version>=2026")
    assert (read.from_ms, read.fallback, read.settings) == (
        1769904000000,
        (),
        {"accept_test": True},
    )
    assert read.days_to_retirement(date(2026, 11, 22)) == 30
    assert read.days_to_retirement(date(2027, 1, 1)) == -10
    [plain] = read_rows(toml({}), "test.toml")
    assert (plain.keys, plain.from_ms, plain.fallback) == ((None, None, None, None), 0, None)
    assert plain.days_to_retirement(date(2026, 11, 22)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provider": '"Acme"'}, "provider must be"),
        ({"provider": '"a"'}, "provider must be"),
        ({"version": '"1 beta"'}, "version must be"),
        ({"version": "1"}, "Expected `str`, got `int` - at `\\$.version`"),
        ({"adapter": '"streams.providers.adyen"'}, "adapter must be module:Class"),
        ({"state": '"alive"'}, "Invalid enum value 'alive'"),
        ({"source": '" "'}, "source must say"),
        ({"live_on": '"soon"'}, "live_on"),
        ({"live_on": "2026-02-01", "retires_on": "2026-01-01"}, "must not come before each other"),
        ({"header": '"X-Version=2"'}, "header must be a lower-case name"),
        ({"path": '"("'}, "path must be a regular expression"),
        ({"path": '""'}, "must not be empty"),
        ({"content": '""'}, "must not be empty"),
        ({"member": '"api_version=2"'}, "member must be name>=text"),
        ({"fallback": '["1"]'}, "falls back on '1', which is not another version of it"),
        ({"fallback": '["2"]'}, "falls back on '2', which is not another version of it"),
        ({"colour": '"red"'}, "unknown field `colour`"),
    ],
)
def test_a_mistake_is_reported_with_its_row(change, message) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        read_rows(toml({"provider": '"other"'}, change), "test.toml")
    assert "test.toml" in str(refusal.value)
    if "row" in str(refusal.value):
        assert "row 2" in str(refusal.value)
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[version]", "is not TOML"),
        ("version = 1", "tables only"),
        ("[[versions]]", "tables only"),
        ("version = [1]", "row 1: Expected `object`, got `int`"),
        ("[[version]]\nprovider = 'acme'", "missing required field"),
        (toml({}, {}), "acme 1 is there 2 times"),
        (toml({}, {"version": '"2"'}), "has the same keys as another live version of acme"),
    ],
)
def test_a_file_that_cannot_be_used(text, message) -> None:
    with pytest.raises(UsageError, match=message):
        read_rows(text, "test.toml")


def test_an_empty_file_has_no_rows() -> None:
    assert read_rows("# nobody yet", "test.toml") == ()


def test_which_row_is_matched_first() -> None:
    plain, old = row(version="1"), row(version="0", state=VersionState.DEPRECATED)
    soon, later = row(version="2", from_=date(2026, 2, 1)), row(version="3", from_=date(2026, 3, 1))
    marked, twice = row(version="4", path="/v4/"), row(version="5", path="/v5/", header="x-v=5")
    rows = [old, plain, soon, later, marked, twice]
    assert [one.version for one in sort_by_preference(rows)] == ["5", "4", "3", "2", "1", "0"]
    assert sort_by_preference(rows[::-1]) == sort_by_preference(rows)


def test_which_version_is_current() -> None:
    old, new = (
        row(version="1", live_on=date(2025, 1, 1)),
        row(version="2", live_on=date(2026, 1, 1)),
    )
    assert current_row([old, new]) is new
    assert current_row([old, row(version="3", state=VersionState.ANNOUNCED)]) is old
    assert (
        current_row(
            [
                row(version="1", state=VersionState.RETIRED),
                row(version="2", state=VersionState.DEPRECATED),
            ]
        ).version
        == "2"
    )


def test_without_a_word_all_other_versions_are_tried_the_newest_first() -> None:
    rows = [
        row(version="1"),
        row(version="2", from_=date(2026, 1, 1)),
        row(version="3", from_=date(2026, 2, 1)),
    ]
    stranger = row(provider="other")
    assert [one.version for one in fallbacks(rows[0], [*rows, stranger])] == ["3", "2"]
    assert fallbacks(row(version="1", fallback=()), rows) == []
    assert [one.version for one in fallbacks(row(version="1", fallback=("2", "3")), rows)] == [
        "2",
        "3",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"adapter": "streams.providers.nobody:Nobody"},
            "module streams.providers.nobody does not exist",
        ),
        ({"adapter": "streams.providers.adyen:Nobody"}, "is not a Dialect"),
        ({"adapter": "streams.providers.adyen:RejectCode"}, "is not a Dialect"),
        ({"provider": "acme"}, "is an adapter of 'adyen'"),
        ({"settings": {"accept": True}}, "has no setting 'accept'; it has accept_test"),
        ({"settings": {"accept_test": "yes"}}, "settings: Expected `bool`"),
        (
            {"settings": {"policy": {"win_without_bet": "PAY"}}},
            "settings: Invalid enum value 'PAY'",
        ),
        (
            {"settings": {"policy": {"win_without_bets": "REFUSE"}}},
            "a policy has no 'win_without_bets'; it has exclusive_operations",
        ),
    ],
)
def test_an_adapter_that_cannot_be_made(fields, message) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        dialect_of(row(**({"provider": "adyen"} | fields)))
    assert str(refusal.value).startswith(f"{fields.get('provider', 'adyen')} 1")


def test_settings_are_the_adapters_fields() -> None:
    settings = {
        "accept_test": True,
        "unsigned_allowed": ["A"],
        "policy": {"win_without_bet": "REFUSE"},
    }
    made = dialect_of(row(provider="adyen", settings=settings))
    policy = msgspec.structs.replace(CARD_POLICY, win_without_bet="REFUSE")
    assert made == Adyen(accept_test=True, unsigned_allowed=frozenset({"A"}), policy=policy)
    assert hash(made.unsigned_allowed)


# --- what is derived from the released rows ---------------------------------------------------------------------------


def test_every_released_row_makes_a_dialect_under_its_name() -> None:
    assert len(released_rows()) >= 4
    for released in released_rows():
        dialect = DIALECTS.version(released).dialect
        assert (dialect.provider, dialect.version) == (released.provider, released.version)
    assert set(DIALECTS) == {released.provider for released in released_rows()} == set(policies())
    assert {raw_topic(name) for name in DIALECTS} <= {topic.name for topic in catalogue(DIALECTS)}
    assert len(DIALECTS) == len(set(DIALECTS))


def test_importing_the_registry_reads_no_file_and_imports_no_adapter() -> None:
    program = (
        "import sys, streams.providers.registry as r\n"
        "assert 'streams.providers.hub88' not in sys.modules and 'lxml' not in sys.modules\n"
        "assert 'rows' not in vars(r.DIALECTS)\n"
        "sorted(r.DIALECTS)\n"
        "assert 'streams.providers.hub88' not in sys.modules\n"
        "r.DIALECTS['hub88']\n"
        "assert 'streams.providers.hub88' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_versions_of_a_provider_stand_side_by_side() -> None:
    rows = [
        row(provider="adyen", version="1", state=VersionState.DEPRECATED),
        row(provider="adyen", version="2", settings={"accept_test": True}),
    ]
    dialects = Dialects(lambda: rows, dialect_of)
    assert [version.row.version for version in dialects.versions("adyen")] == ["1", "2"]
    assert dialects["adyen"] == Adyen(accept_test=True)
    assert dialects["adyen"] is dialects.versions("adyen")[1].dialect
    with pytest.raises(KeyError):
        dialects.versions("hub88")


def test_secrets_are_blotted_out_wherever_a_raw_record_is_shown() -> None:
    assert redact("playngo", b"<reserve><accessToken>s3cret</accessToken></reserve>") == (
        b"<reserve><accessToken>***</accessToken></reserve>"
    )
    assert redact("hub88", b'{"user":"p"}') == b'{"user":"p"}'
    assert redact("hub88", None) is None
    assert b"s3cret" not in (redact("nobody", b"s3cret") or b"")
