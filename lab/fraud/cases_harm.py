"""Cases about affiliates and about harm: D03 and D19."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lab.fraud.story import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, PlayerStory
from lab.fraud.truth import CaseType, CaseWriter, Level

_ONLY_OVER: Final = (Level.OVER,)
_ONLY_NEAR: Final = (Level.NEAR,)


# --- D03: an affiliate's deposits


def _affiliate(case: CaseWriter, players: int) -> list[PlayerStory]:
    """Return players whom one affiliate brought, registered a month before.

    Those of them without a confirmed deposit are a case of D02 as well.
    """
    name = case.stream.next_name("affiliate")
    case.truth.keys.append(f"aurora:affiliate:{name}")
    case.truth.also = ["D02"]
    stories = [case.player() for _ in range(players)]
    for story in stories:
        story.report(case.at_ms - 30 * DAY_MS, "REGISTERED", affiliate=name)
    return stories


def _unconfirmed(case: CaseWriter) -> None:
    # EUR 1,800 is the reference of the definition's USD 2,000.
    total = case.above(180_000, inclusive=False, far=6)
    stories = _affiliate(case, 8)
    share = total // 8
    for number, story in enumerate(stories):
        amount = share if number else total - 7 * share
        at_ms = case.at_ms + number * 40 * SECOND_MS
        story.confirm(at_ms, amount, None, provider="clickpartner", money=amount)
    case.complete(case.at_ms + 7 * 40 * SECOND_MS)


def _deposit_burst(case: CaseWriter) -> None:
    count = case.above(20, inclusive=False, far=2)
    for number, story in enumerate(_affiliate(case, count)):
        story.deposit(case.at_ms + number * 13 * SECOND_MS, 2_000 + 137 * number, money=2_000)
    case.complete(case.at_ms + 20 * 13 * SECOND_MS)


def _share_unconfirmed(case: CaseWriter) -> None:
    # One of n: above 5 % up to 19 deposits, not at 20.
    count = {Level.OVER: 11, Level.EDGE: 19, Level.NEAR: 20}[case.level]
    _mixed(case, count)


def _few_deposits(case: CaseWriter) -> None:
    _mixed(case, 10 if case.level is Level.EDGE else 9)


def _mixed(case: CaseWriter, count: int) -> None:
    """Send deposits over hours, the last of them with no confirmation and of little money."""
    for number, story in enumerate(_affiliate(case, count)):
        at_ms, amount = case.at_ms + number * 40 * MINUTE_MS, 2_000 + 113 * number
        if number == count - 1:
            story.confirm(at_ms, amount, None, provider="clickpartner", money=amount)
        else:
            story.deposit(at_ms, amount, money=amount)
    case.complete(case.at_ms + (count - 1) * 40 * MINUTE_MS)


def _one_amount(case: CaseWriter) -> None:
    # Of 40 deposits 21 or 22 are alike (52 to 55 %), at the far side 19 or 20.
    same = case.rng.randint(
        *{Level.OVER: (26, 38), Level.EDGE: (21, 21), Level.NEAR: (19, 20)}[case.level]
    )
    _alike(case, 40, same)


def _few_alike(case: CaseWriter) -> None:
    count = 20 if case.level is Level.EDGE else 19
    _alike(case, count, count - 4)


def _alike(case: CaseWriter, count: int, same: int) -> None:
    stories = _affiliate(case, count)
    # The different ones come first, so that the share rises to its value at the end.
    for number, story in enumerate(stories):
        amount = 5_000 if number >= count - same else 2_000 + 113 * number
        story.deposit(case.at_ms + number * 20 * MINUTE_MS, amount, money=amount)
    case.complete(case.at_ms + (count - 1) * 20 * MINUTE_MS)


def _busy_hour(case: CaseWriter) -> None:
    """Send a burst in an hour that had 24 deposits in each of the weeks before.

    Six times the usual ten minutes of it are 24.
    """
    count = {Level.OVER: 40, Level.EDGE: 25, Level.NEAR: 24}[case.level]
    stories = _affiliate(case, count)
    hour_ms = case.at_ms - case.at_ms % HOUR_MS
    for week in (3, 2, 1, 0):
        own = stories[:24] if week else stories
        for number, story in enumerate(own):
            every_ms = 140 * SECOND_MS if week else 13 * SECOND_MS
            at_ms = hour_ms - week * 7 * DAY_MS + number * every_ms
            story.deposit(at_ms, 2_000 + 157 * number + week)
    case.complete(hour_ms + 24 * 13 * SECOND_MS)


def _no_affiliate(case: CaseWriter) -> None:
    for number in range(25):
        case.player().deposit(case.at_ms + number * 10 * SECOND_MS, 2_000 + 41 * number)


# --- D19: two markers within 30 days


def _cancel_withdrawals(player: PlayerStory, at_ms: int) -> int:
    for number in range(2):
        player.report(at_ms + number * DAY_MS, "WITHDRAWAL_CANCELLED", None, withdrawal="w")
    return at_ms + DAY_MS


def _marker_pair(case: CaseWriter, write: Callable[[CaseWriter, PlayerStory], int]) -> None:
    """Send a marker that is certain, and then the one at the level of the case."""
    player = case.player()
    _cancel_withdrawals(player, case.at_ms)
    case.at_ms += 3 * DAY_MS
    case.complete(write(case, player))


def _fail_deposits(case: CaseWriter, player: PlayerStory) -> int:
    span_ms = round(DAY_MS * (1.03 if case.level is Level.NEAR else 0.97))
    times = [case.at_ms, case.at_ms + span_ms // 2, case.at_ms + span_ms]
    for at_ms in times:
        player.report(at_ms, "DEPOSIT_FAILED", None, instrument="card")
    return times[-1]


def _raise_limits(case: CaseWriter, player: PlayerStory) -> int:
    for number in range(2 if case.level is Level.NEAR else 3):
        player.report(case.at_ms + number * 3 * DAY_MS, "LIMIT_RAISED", None, what="deposit")
    return case.at_ms + 6 * DAY_MS


def _play_long(case: CaseWriter, player: PlayerStory) -> int:
    length_ms = case.above(3 * HOUR_MS, inclusive=False, far=1.5)
    steps = 24
    for number in range(steps + 1):
        player.play(case.at_ms + number * length_ms // steps, 1, 10)
    return case.at_ms + 3 * HOUR_MS


def _chase(case: CaseWriter, player: PlayerStory, gap_ms: int, left_percent: float) -> int:
    """Lose all but a share of what there is, and deposit again after a gap, three times."""
    at_ms, balance, first = case.at_ms, 0, 0
    player.deposit(at_ms, 10_000)
    for _ in range(3):
        balance += 10_000
        first = balance if gap_ms > 10 * MINUTE_MS else max(first, balance)
        left = round(first * left_percent / 100)
        at_ms += MINUTE_MS
        player.bet(at_ms, balance - left)
        balance = left
        at_ms += gap_ms
        player.deposit(at_ms - 5_000, 10_000, delay_ms=100)
    return at_ms


def _chase_losses(case: CaseWriter, player: PlayerStory) -> int:
    if case.level is Level.NEAR:
        return _chase(case, player, round(15 * MINUTE_MS * 1.02), 2.0)
    gap_ms = 15 * MINUTE_MS * 98 // 100 if case.level is Level.EDGE else 4 * MINUTE_MS
    return _chase(case, player, gap_ms, 2.0)


def _lose_nearly_all(case: CaseWriter, player: PlayerStory) -> int:
    left = {Level.OVER: 1.0, Level.EDGE: 4.8, Level.NEAR: 5.2}[case.level]
    return _chase(case, player, 4 * MINUTE_MS, left)


def _deposit_more(case: CaseWriter, usual: int, more: int) -> None:
    """Deposit the same in each of four weeks, and then more; two markers in all."""
    player = case.player()
    for week in range(4):
        player.deposit(case.at_ms + week * 7 * DAY_MS, usual)
    at_ms = case.at_ms + 28 * DAY_MS
    _cancel_withdrawals(player, at_ms - 2 * DAY_MS)
    player.deposit(at_ms, more)
    case.complete(at_ms + 5_000)


def _escalate(case: CaseWriter) -> None:
    # The average week of the 22 days before is 4 x 20,000 x 7 / 22; twice that is 50,909.
    _deposit_more(case, 20_000, case.above(50_909, inclusive=False, far=2))


def _escalate_little(case: CaseWriter) -> None:
    # Far above the average in any case; EUR 200 decide.
    _deposit_more(case, 4_000, case.above(20_000, inclusive=False, far=2))


def _play_at_night(case: CaseWriter, player: PlayerStory) -> int:
    """Play a hundred rounds and more, a share of them before five in the morning of Madrid."""
    player.report(case.at_ms - DAY_MS, "REGISTERED", None, time_zone="Europe/Madrid")
    return _play_nights(case, player, 120, {"OVER": 70, "EDGE": 49, "NEAR": 48}[case.level])


def _play_few_rounds(case: CaseWriter, player: PlayerStory) -> int:
    player.report(case.at_ms - DAY_MS, "REGISTERED", None, time_zone="Europe/Madrid")
    return _play_nights(case, player, case.above(100, far=1.3), 70)


def _play_nights(case: CaseWriter, player: PlayerStory, count: int, night: int) -> int:
    """Play in the afternoon, and then so many rounds after one in the morning of Madrid."""
    midnight_ms = case.at_ms - case.at_ms % DAY_MS + DAY_MS - 2 * HOUR_MS  # Madrid in summer
    for number in range(count):
        is_night = number >= count - night
        hours = 1 * HOUR_MS if is_night else -8 * HOUR_MS
        player.bet(midnight_ms + hours + number * 30 * SECOND_MS, 5)
    return midnight_ms + HOUR_MS + (count - 1) * 30 * SECOND_MS


def _pair_of(write: Callable[[CaseWriter, PlayerStory], int]) -> Callable[[CaseWriter], None]:
    return lambda case: _marker_pair(case, write)


def _one_marker(case: CaseWriter) -> None:
    player = case.player()
    _cancel_withdrawals(player, case.at_ms)


def _early_bird(case: CaseWriter) -> None:
    """Play before five in the morning of UTC, which is day where the player lives."""
    player = case.player()
    _cancel_withdrawals(player, case.at_ms)
    player.report(case.at_ms - DAY_MS, "REGISTERED", None, time_zone="Asia/Tokyo")
    midnight_ms = case.at_ms - case.at_ms % DAY_MS
    for number in range(120):
        player.bet(midnight_ms + HOUR_MS + number * 30 * SECOND_MS, 5)


CASES: Final = (
    CaseType("D03", "unconfirmed money", _unconfirmed, "block"),
    CaseType("D03", "burst of deposits", _deposit_burst, "hold"),
    CaseType("D03", "share unconfirmed", _share_unconfirmed, "hold"),
    CaseType("D03", "few deposits", _few_deposits, "hold", (Level.EDGE, Level.NEAR)),
    CaseType("D03", "one amount", _one_amount, "hold"),
    CaseType("D03", "few alike", _few_alike, "hold", (Level.EDGE, Level.NEAR)),
    CaseType("D03", "busy hour", _busy_hour, "hold"),
    CaseType("D03", "no affiliate", _no_affiliate, levels=_ONLY_NEAR),
    CaseType("D19", "failed deposits", _pair_of(_fail_deposits), levels=(Level.EDGE, Level.NEAR)),
    CaseType("D19", "limits raised", _pair_of(_raise_limits), levels=(Level.EDGE, Level.NEAR)),
    CaseType("D19", "long session", _pair_of(_play_long)),
    CaseType("D19", "loss chasing", _pair_of(_chase_losses)),
    CaseType("D19", "nearly all lost", _pair_of(_lose_nearly_all)),
    CaseType("D19", "night play", _pair_of(_play_at_night)),
    CaseType("D19", "rounds at night", _pair_of(_play_few_rounds)),
    CaseType("D19", "escalation", _escalate),
    CaseType("D19", "escalation of little", _escalate_little),
    CaseType("D19", "one marker", _one_marker, levels=_ONLY_NEAR),
    CaseType("D19", "early bird", _early_bird, levels=_ONLY_NEAR),
)
