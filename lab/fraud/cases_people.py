"""Cases about people and places: D08, D12 and D18B."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from lab.fraud.story import DAY_MS, HOUR_MS, MINUTE_MS
from lab.fraud.truth import CaseType, CaseWriter, Level

_ONLY_OVER: Final = (Level.OVER,)
_ONLY_NEAR: Final = (Level.NEAR,)


# --- D08: one instrument or id of two accounts, one device of three within 30 days


def _share(
    case: CaseWriter, fact: str, attribute: str, count: int, every_ms: int, region: str = "MT"
) -> None:
    value = case.stream.next_name(attribute)
    at_ms = case.at_ms
    for number in range(count):
        case.player(region).report(at_ms, fact, None, **{attribute: value})
        if number < count - 1:
            at_ms += every_ms
    case.complete(at_ms)


def _one_card(case: CaseWriter) -> None:
    _share(case, "INSTRUMENT_ADDED", "instrument", 2, case.rng.randint(1, 20) * DAY_MS)


def _one_card_in_germany(case: CaseWriter) -> None:
    _share(case, "INSTRUMENT_ADDED", "instrument", 2, 3 * DAY_MS, "DE")


def _one_id(case: CaseWriter) -> None:
    _share(case, "REGISTERED", "government_id", 2, case.rng.randint(1, 20) * DAY_MS)


def _one_device(case: CaseWriter) -> None:
    _share(case, "LOGIN", "device", 3, case.rng.randint(1, 10) * DAY_MS)


def _device_of_a_month(case: CaseWriter) -> None:
    share = 0.96 + 0.03 * case.rng.random() if case.level is Level.EDGE else 1.02
    _share(case, "LOGIN", "device", 3, round(15 * DAY_MS * share))


def _same_card_again(case: CaseWriter) -> None:
    player, card = case.player(), case.stream.next_name("instrument")
    for number in range(2):
        player.report(case.at_ms + number * DAY_MS, "INSTRUMENT_ADDED", None, instrument=card)


def _two_at_one_device(case: CaseWriter) -> None:
    _share(case, "LOGIN", "device", 2, DAY_MS)


def _one_address(case: CaseWriter) -> None:
    _share(case, "REGISTERED", "address", 4, DAY_MS)


def _one_network(case: CaseWriter) -> None:
    _share(case, "LOGIN", "ip", 6, MINUTE_MS)


# --- D12: a location inside, at most five minutes old


def _bet_at(case: CaseWriter, age_ms: int, jurisdiction: str, region: str = "") -> None:
    region = region or case.rng.choice(["CA-ON", "US-NJ"])
    player = case.player(region)
    delay_ms = case.rng.choice([None, 4_000])
    player.report(case.at_ms - age_ms, "LOCATED", delay_ms, jurisdiction=jurisdiction or region)
    player.bet(case.at_ms, 700, money=700)
    case.complete(case.at_ms)


def _outside(case: CaseWriter) -> None:
    _bet_at(case, case.rng.randint(1, 200_000), case.rng.choice(["US-NY", "CA-QC"]))


def _without_location(case: CaseWriter) -> None:
    case.player("US-NJ").bet(case.at_ms, 500, money=500)
    case.complete(case.at_ms)


def _old_location(case: CaseWriter) -> None:
    _bet_at(case, case.above(300_000, inclusive=False, far=20), "")


def _moved_out(case: CaseWriter) -> None:
    player = case.player("CA-ON")
    player.report(case.at_ms, "LOCATED", None, jurisdiction="CA-ON")
    player.bet(case.at_ms + MINUTE_MS, 500)
    player.report(case.at_ms + 2 * MINUTE_MS, "LOCATED", None, jurisdiction="CA-MB")
    player.bet(case.at_ms + 2 * MINUTE_MS + 1, 500, money=500)
    case.complete(case.at_ms + 2 * MINUTE_MS + 1)


def _by_residence(case: CaseWriter) -> None:
    _bet_at(case, 400_000, "FR", case.rng.choice(["MT", "GB", "SE"]))


def _location_comes_late(case: CaseWriter) -> None:
    player = case.player("US-NJ")
    player.report(case.at_ms - 1_000, "LOCATED", 7_000, jurisdiction="US-NJ")
    player.bet(case.at_ms, 500, delay_ms=50)


def _same_moment(case: CaseWriter) -> None:
    player = case.player("CA-ON")
    player.report(case.at_ms, "LOCATED", 900, jurisdiction="CA-ON")
    player.bet(case.at_ms, 500, delay_ms=50)


def _back_inside(case: CaseWriter) -> None:
    player = case.player("CA-ON")
    player.report(case.at_ms, "LOCATED", None, jurisdiction="CA-QC")
    player.report(case.at_ms + MINUTE_MS, "LOCATED", None, jurisdiction="CA-ON")
    player.bet(case.at_ms + MINUTE_MS + 500, 500)


# --- D18B: play while under age, 18 years but for Ontario (19) and New Jersey (21)


_ZONES: Final = {
    "MT": "Europe/Malta",
    "GB": "Europe/London",
    "SE": "Europe/Stockholm",
    "CA-ON": "America/Toronto",
    "US-NJ": "America/New_York",
}


def _birth_date(at_ms: int, region: str, years: int, days: int) -> str:
    """Return the date of birth of a person who becomes so many years old in so many days."""
    local = datetime.fromtimestamp(at_ms // 1_000, ZoneInfo(_ZONES[region])).date()
    birthday = local + timedelta(days=days)
    if (birthday.month, birthday.day) == (2, 29):
        birthday += timedelta(days=1)
    return birthday.replace(year=birthday.year - years).isoformat()


def _bet_young(case: CaseWriter, region: str, years: int, late_ms: int | None = None) -> None:
    """Bet at most five years too young; at the edge, or short of it, some months off a birthday."""
    player = case.player(region)
    days = {
        Level.OVER: case.rng.randint(400, 1_800),
        Level.EDGE: case.rng.randint(1, 300),
        Level.NEAR: case.rng.choice([0, 0, -1, -300]),
    }[case.level]
    born_on = _birth_date(case.at_ms, region, years, days)
    player.report(case.at_ms - 4_000, "REGISTERED", late_ms, born_on=born_on)
    player.report(case.at_ms - 2_000, "LOCATED", jurisdiction=region)
    player.bet(case.at_ms, 100, money=100, delay_ms=late_ms and 50)
    case.complete(case.at_ms)


def _too_young(case: CaseWriter) -> None:
    _bet_young(case, case.rng.choice(["MT", "GB", "SE"]), 18)


def _young_in_ontario(case: CaseWriter) -> None:
    _bet_young(case, "CA-ON", 19)


def _young_in_new_jersey(case: CaseWriter) -> None:
    _bet_young(case, "US-NJ", 21)


def _registered_late(case: CaseWriter) -> None:
    _bet_young(case, "MT", 18, 9_000)


def _deposit_young(case: CaseWriter) -> None:
    player = case.player("SE")
    born_on = _birth_date(case.at_ms, "SE", 18, 700)
    player.report(case.at_ms - DAY_MS, "REGISTERED", born_on=born_on)
    player.open_deposit(case.at_ms, 5_000, money=5_000)
    case.complete(case.at_ms)


def _midnight_of_birthday(case: CaseWriter) -> None:
    """Bet at the first second of the birthday, which is the day before in UTC."""
    zone = ZoneInfo(_ZONES["SE"])
    day = datetime.fromtimestamp(case.at_ms // 1_000, zone).date()
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    midnight_ms = int(midnight.timestamp()) * 1_000
    player = case.player("SE")
    born_on = _birth_date(midnight_ms, "SE", 18, 0)
    player.report(midnight_ms - HOUR_MS, "REGISTERED", born_on=born_on)
    player.bet(midnight_ms, 1_000)


def _date_corrected(case: CaseWriter) -> None:
    player = case.player()
    for number, born_on in enumerate(("2018-05-01", "1981-05-01")):
        player.report(case.at_ms + number * MINUTE_MS, "REGISTERED", born_on=born_on)
    player.bet(case.at_ms + 2 * MINUTE_MS, 1_000)


def _date_unknown(case: CaseWriter) -> None:
    for words in ({}, {"born_on": ""}, {"born_on": "unknown"}):
        player = case.player()
        player.report(case.at_ms, "REGISTERED", None, affiliate="", **words)
        player.bet(case.at_ms + MINUTE_MS, 1_000)


CASES: Final = (
    CaseType("D08", "one card", _one_card, levels=(Level.OVER, Level.EDGE)),
    CaseType("D08", "one card in Germany", _one_card_in_germany, "hold", _ONLY_OVER),
    CaseType("D08", "one id", _one_id, levels=(Level.OVER, Level.EDGE)),
    CaseType("D08", "one device", _one_device, levels=(Level.OVER, Level.EDGE)),
    CaseType("D08", "device of a month", _device_of_a_month, levels=(Level.EDGE, Level.NEAR)),
    CaseType("D08", "same card again", _same_card_again, levels=_ONLY_NEAR),
    CaseType("D08", "two at one device", _two_at_one_device, levels=_ONLY_NEAR),
    CaseType("D08", "one address", _one_address, levels=_ONLY_NEAR),
    CaseType("D08", "one network", _one_network, levels=_ONLY_NEAR),
    CaseType("D12", "outside", _outside, "block", _ONLY_OVER),
    CaseType("D12", "without location", _without_location, "block", _ONLY_OVER),
    CaseType("D12", "old location", _old_location, "block"),
    CaseType("D12", "moved out", _moved_out, "block", _ONLY_OVER),
    CaseType("D12", "by residence", _by_residence, levels=_ONLY_NEAR),
    CaseType("D12", "location comes late", _location_comes_late, levels=_ONLY_NEAR),
    CaseType("D12", "same moment", _same_moment, levels=_ONLY_NEAR),
    CaseType("D12", "back inside", _back_inside, levels=_ONLY_NEAR),
    CaseType("D18B", "too young", _too_young, "block"),
    CaseType("D18B", "in Ontario", _young_in_ontario, "block"),
    CaseType("D18B", "in New Jersey", _young_in_new_jersey, "block"),
    CaseType("D18B", "registered late", _registered_late, "block", _ONLY_OVER),
    CaseType("D18B", "deposit", _deposit_young, "block", _ONLY_OVER),
    CaseType("D18B", "midnight of a birthday", _midnight_of_birthday, levels=_ONLY_NEAR),
    CaseType("D18B", "date corrected", _date_corrected, levels=_ONLY_NEAR),
    CaseType("D18B", "date unknown", _date_unknown, levels=_ONLY_NEAR),
)
