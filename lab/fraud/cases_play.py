"""Cases about play: D01B, D15 to D18 and D20. Numbers are those of the definitions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from lab.fraud.story import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, PlayerStory
from lab.fraud.truth import CaseType, CaseWriter, Level

_ONLY_OVER: Final = (Level.OVER,)
_ONLY_NEAR: Final = (Level.NEAR,)


# --- D01B: rounds of a slot closer together than 2.3 s in Great Britain, 4.8 s in Germany


def _spin_soon(case: CaseWriter, region: str, least_ms: int) -> None:
    player, stake = case.player(region), 20
    gap_ms, game = case.below(least_ms, far=0.2), "slot-4"
    at_ms = case.at_ms
    for number in range(6):
        player.bet(at_ms, stake, game=game, money=stake)
        at_ms += gap_ms if number == 3 else 6_000
    case.complete(case.at_ms + 3 * 6_000 + gap_ms)


def _british_spins(case: CaseWriter) -> None:
    _spin_soon(case, "GB", 2_300)


def _german_spins(case: CaseWriter) -> None:
    _spin_soon(case, "DE", 4_800)


def _many_lines(case: CaseWriter) -> None:
    """Report ten lines of each round as ten bets, and play a second game beside it."""
    player = case.player("GB")
    for number in range(4):
        round_id = case.stream.next_name("round")
        for line in range(10):
            at_ms = case.at_ms + number * 3_000 + line * 5
            player.bet(at_ms, 2, game="slot-4", round_id=round_id)
        player.bet(case.at_ms + number * 3_000 + 1_500, 20, game="slot-5")


def _free_spins(case: CaseWriter) -> None:
    player = case.player("DE")
    for number in range(8):
        player.bet(case.at_ms + number * 900, 20, game="slot-4", is_free=True)


# --- D15: one id, two contents


def _changed_amount(case: CaseWriter) -> None:
    player = case.player()
    first = player.bet(case.at_ms, 1_000)
    assert first.round_id is not None
    at_ms = case.at_ms + case.rng.randint(2, 200) * SECOND_MS
    changed = first.provider_tx_id
    player.bet(at_ms, 900, round_id=first.round_id, tx_id=changed, money=1_000)
    case.complete(at_ms)


def _other_round(case: CaseWriter) -> None:
    player = case.player()
    bet = player.bet(case.at_ms, 1_000)
    assert bet.round_id is not None
    win = player.win(case.at_ms + 2_000, 5_000, bet.round_id)
    later = player.bet(case.at_ms + 60_000, 1_000)
    assert later.round_id is not None
    at_ms = case.at_ms + 90_000
    player.win(at_ms, 5_000, later.round_id, tx_id=win.provider_tx_id, money=5_000)
    case.complete(at_ms)


def _changed_deposit(case: CaseWriter) -> None:
    player = case.player()
    reference = player.open_deposit(case.at_ms, 20_000)
    notice = player.confirm(case.at_ms + 3_000, 10_000, reference)
    tx_id = notice.provider_tx_id
    player.confirm(case.at_ms + 60_000, 9_000, reference, tx_id=tx_id, money=10_000)
    case.complete(case.at_ms + 60_000)


def _retries(case: CaseWriter) -> None:
    player = case.player()
    first = player.bet(case.at_ms, 1_000)
    assert first.round_id is not None
    tx_id = first.provider_tx_id
    for number in range(1, 4):
        at_ms = case.at_ms + number * 7_000
        player.bet(at_ms, 1_000, round_id=first.round_id, tx_id=tx_id)


def _same_id_of_two_operations(case: CaseWriter) -> None:
    player = case.player()
    bet = player.bet(case.at_ms, 1_000)
    assert bet.round_id is not None
    player.win(case.at_ms + 2_000, 3_000, bet.round_id, tx_id=bet.provider_tx_id)


def _same_id_of_two_brands(case: CaseWriter) -> None:
    first = case.player()
    bet = first.bet(case.at_ms, 1_000)
    second = PlayerStory(case.stream, brand="fjord")
    second.player_id = first.player_id
    second.bet(case.at_ms + 5_000, 2_000, tx_id=bet.provider_tx_id)


# --- D16: a win whose round has no bet within 60 s


def _orphan(case: CaseWriter) -> None:
    player = case.player()
    player.win(case.at_ms, 8_000, player.stream.next_name("round"), money=8_000)
    case.complete(case.at_ms + MINUTE_MS)


def _late_bet(case: CaseWriter) -> None:
    player = case.player()
    round_id = player.stream.next_name("round")
    player.win(case.at_ms, 8_000, round_id, money=8_000)
    player.bet(case.at_ms + case.above(MINUTE_MS, inclusive=False), 100, round_id=round_id)
    case.complete(case.at_ms + MINUTE_MS)


def _orphan_withdrawn(case: CaseWriter) -> None:
    player = case.player()
    player.win(case.at_ms, 80_000, player.stream.next_name("round"), money=80_000)
    at_ms = case.at_ms + case.rng.choice([20_000, 300_000])
    player.withdraw(at_ms, 80_000)
    case.complete(max(at_ms, case.at_ms + MINUTE_MS))


def _free_round(case: CaseWriter) -> None:
    player = case.player()
    player.win(case.at_ms, 2_000, player.stream.next_name("round"), campaign_id="spins")
    player.win(case.at_ms + 9_000, 2_000, player.stream.next_name("round"), is_free=True)


def _prize(case: CaseWriter) -> None:
    player = case.player()
    player.win(case.at_ms, 50_000, player.stream.next_name("round"), kind="PROMO_WIN")
    player.win(case.at_ms + 60_000, 900_000, player.stream.next_name("j"), kind="JACKPOT_WIN")


def _win_of_nothing(case: CaseWriter) -> None:
    player = case.player()
    player.win(case.at_ms, 0, player.stream.next_name("round"))


def _win_overtakes_bet(case: CaseWriter) -> None:
    player = case.player()
    round_id = player.stream.next_name("round")
    player.win(case.at_ms + 1_000, 3_000, round_id, delay_ms=100)
    player.bet(case.at_ms, 1_000, round_id=round_id, delay_ms=4_000)


# --- D17: a bet after the round was closed, a settlement a day after it


def _after_close(case: CaseWriter) -> None:
    player = case.player()
    round_id = player.stream.next_name("round")
    player.bet(case.at_ms, 1_000, round_id=round_id)
    closed_ms = case.at_ms + 20_000
    player.send(closed_ms, "close", [player.leg("ROUND_CLOSE", None)], round_id=round_id)
    late_ms = case.above(500, inclusive=False, far=90)
    player.bet(closed_ms + late_ms, 50_000, round_id=round_id, money=50_000)
    case.complete(closed_ms + late_ms)


def _settled_late(case: CaseWriter) -> None:
    player = case.player()
    bet = player.bet(case.at_ms, 1_000)
    assert bet.round_id is not None
    closed_ms = case.at_ms + 20_000
    player.send(closed_ms, "close", [player.leg("ROUND_CLOSE", None)], round_id=bet.round_id)
    late_ms = case.above(DAY_MS, inclusive=False, far=1.6)
    player.win(closed_ms + late_ms, 70_000, bet.round_id, money=70_000)
    case.complete(closed_ms + late_ms)


def _bet_closes_its_round(case: CaseWriter) -> None:
    player = case.player()
    for number in range(3):
        at_ms = case.at_ms + number * 9_000
        player.bet(at_ms, 1_000, round_closed=True)


def _bet_sent_again(case: CaseWriter) -> None:
    """Send a bet again after its round was closed, with the time of the second sending."""
    player = case.player()
    bet = player.bet(case.at_ms, 1_000)
    assert bet.round_id is not None
    close = [player.leg("ROUND_CLOSE", None)]
    player.send(case.at_ms + 2_000, "close", close, round_id=bet.round_id)
    tx_id = bet.provider_tx_id
    player.bet(case.at_ms + 9_000, 1_000, round_id=bet.round_id, tx_id=tx_id)


def _close_overtakes_bet(case: CaseWriter) -> None:
    player = case.player()
    round_id = player.stream.next_name("round")
    close = [player.leg("ROUND_CLOSE", None)]
    player.send(case.at_ms + 1_000, "close", close, round_id=round_id, delay_ms=50)
    player.bet(case.at_ms, 1_000, round_id=round_id, delay_ms=5_000)


# --- D18: play while excluded


def _bet_while_excluded(case: CaseWriter) -> None:
    player = case.player("SE")
    player.play(case.at_ms, 3, 1_000)
    excluded_ms = case.at_ms + 10 * MINUTE_MS
    player.set_state(excluded_ms, "player.blocked", case.rng.choice(["exclusion", "kyc"]))
    at_ms = excluded_ms + case.rng.choice([0, 1, 5_000, HOUR_MS, 3 * DAY_MS])
    player.bet(at_ms, 1_000, money=1_000, delay_ms=3_000)
    case.complete(at_ms)


def _deposit_while_excluded(case: CaseWriter) -> None:
    player = case.player("DE")
    player.set_state(case.at_ms, "player.blocked", "exclusion")
    at_ms = case.at_ms + case.rng.randint(1, 40) * HOUR_MS
    player.open_deposit(at_ms, 5_000, money=5_000)
    case.complete(at_ms)


def _news_comes_late(case: CaseWriter) -> None:
    player = case.player("GB")
    player.set_state(case.at_ms, "player.blocked", "exclusion", delay_ms=9_000)
    player.bet(case.at_ms + 2_000, 100, money=100, delay_ms=100)
    case.complete(case.at_ms + 9_000)


def _settled_after_exclusion(case: CaseWriter) -> None:
    player = case.player("SE")
    bet = player.bet(case.at_ms, 1_000, delay_ms=6_000)
    assert bet.round_id is not None
    player.set_state(case.at_ms + 1, "player.blocked", "exclusion", delay_ms=100)
    player.win(case.at_ms + 30_000, 4_000, bet.round_id)


def _sent_again_after_exclusion(case: CaseWriter) -> None:
    player = case.player("SE")
    bet = player.bet(case.at_ms, 1_000)
    assert bet.round_id is not None
    player.set_state(case.at_ms + 5_000, "player.blocked", "exclusion")
    tx_id = bet.provider_tx_id
    player.bet(case.at_ms + 12_000, 1_000, round_id=bet.round_id, tx_id=tx_id)


def _released(case: CaseWriter) -> None:
    player = case.player("SE")
    player.set_state(case.at_ms, "player.blocked", "kyc")
    player.set_state(case.at_ms + HOUR_MS, "player.released", "kyc")
    player.bet(case.at_ms + HOUR_MS + 5_000, 1_000)


def _blocked_by_operator(case: CaseWriter) -> None:
    player = case.player("SE")
    player.set_state(case.at_ms, "player.blocked", "operator")
    player.bet(case.at_ms + MINUTE_MS, 1_000)


def _paid_after_exclusion(case: CaseWriter) -> None:
    player = case.player("DE")
    reference = player.open_deposit(case.at_ms, 5_000)
    player.set_state(case.at_ms + 10_000, "player.blocked", "exclusion")
    player.confirm(case.at_ms + 5 * MINUTE_MS, 5_000, reference)


# --- D20: limits of the law and of the player


def _british_stake(case: CaseWriter) -> None:
    player = case.player("GB")
    amount = case.above(500, inclusive=False)
    player.bet(case.at_ms, amount, game="slot-9", money=amount)
    case.complete(case.at_ms)


def _german_stake(case: CaseWriter) -> None:
    player = case.player("DE")
    amount = case.above(100, inclusive=False)
    player.bet(case.at_ms, amount, game="slot-9", money=amount)
    case.complete(case.at_ms)


def _deposit_at(case: CaseWriter, region: str, times: list[int], total: int) -> None:
    player = case.player(region)
    share = total // len(times)
    for at_ms in times:
        amount = share if at_ms != times[-1] else total - share * (len(times) - 1)
        player.deposit(at_ms, amount, money=amount)
    case.complete(times[-1] + 5_000)


def _noon(at_ms: int) -> int:
    """Return noon (UTC) of a day: the same calendar day in every zone of Europe."""
    return at_ms - at_ms % DAY_MS + 12 * HOUR_MS


def _monday(at_ms: int) -> int:
    """Return noon of the Monday of a week."""
    noon_ms = _noon(at_ms)
    return noon_ms - datetime.fromtimestamp(noon_ms // 1_000, UTC).weekday() * DAY_MS


def _first_of_month(at_ms: int) -> int:
    noon_ms = _noon(at_ms)
    return noon_ms - (datetime.fromtimestamp(noon_ms // 1_000, UTC).day - 1) * DAY_MS


def _spanish_day(case: CaseWriter) -> None:
    noon_ms = _noon(case.at_ms)
    total = case.above(60_000, inclusive=False, far=1.3)
    _deposit_at(case, "ES", [noon_ms - HOUR_MS, noon_ms, noon_ms + HOUR_MS], total)


def _spanish_week(case: CaseWriter) -> None:
    monday_ms = _monday(case.at_ms)
    total = case.above(150_000, inclusive=False, far=1.15)
    _deposit_at(case, "ES", [monday_ms + day * DAY_MS for day in range(5)], total)


def _spanish_month(case: CaseWriter) -> None:
    first_ms = _first_of_month(case.at_ms)
    total = case.above(300_000, inclusive=False, far=1.1)
    _deposit_at(case, "ES", [first_ms + day * 3 * DAY_MS for day in range(9)], total)


def _german_month(case: CaseWriter) -> None:
    first_ms = _first_of_month(case.at_ms)
    total = case.above(100_000, inclusive=False, far=1.5)
    _deposit_at(case, "DE", [first_ms + day * 5 * DAY_MS for day in range(5)], total)


def _own_limit(case: CaseWriter) -> None:
    player = case.player()
    player.set_state(case.at_ms, "player.limited", "operator", minor=2_000)
    amount = case.above(2_000, inclusive=False)
    player.bet(case.at_ms + HOUR_MS, amount, money=amount)
    case.complete(case.at_ms + HOUR_MS)


def _bet_before_limit(case: CaseWriter) -> None:
    player = case.player()
    player.bet(case.at_ms, 5_000, delay_ms=9_000)
    player.set_state(case.at_ms + 1_000, "player.limited", "operator", minor=2_000, delay_ms=50)


def _free_and_table(case: CaseWriter) -> None:
    player = case.player("GB")
    player.bet(case.at_ms, 9_000, game="slot-9", is_free=True)
    player.bet(case.at_ms + MINUTE_MS, 9_000, game="roulette-2")


def _two_days(case: CaseWriter) -> None:
    """Deposits on both sides of midnight in Madrid, which is not that of UTC."""
    midnight_ms = case.at_ms - case.at_ms % DAY_MS - 2 * HOUR_MS  # Madrid in summer
    player = case.player("ES")
    player.deposit(midnight_ms - 10 * MINUTE_MS, 59_000)
    player.deposit(midnight_ms + 10 * MINUTE_MS, 59_000)


CASES: Final = (
    CaseType("D01B", "British spins", _british_spins),
    CaseType("D01B", "German spins", _german_spins),
    CaseType("D01B", "many lines", _many_lines, levels=_ONLY_NEAR),
    CaseType("D01B", "free spins", _free_spins, levels=_ONLY_NEAR),
    CaseType("D15", "changed amount", _changed_amount, "block", _ONLY_OVER),
    CaseType("D15", "other round", _other_round, "block", _ONLY_OVER),
    CaseType("D15", "changed deposit", _changed_deposit, "block", _ONLY_OVER),
    CaseType("D15", "retries", _retries, levels=_ONLY_NEAR),
    CaseType("D15", "two operations", _same_id_of_two_operations, levels=_ONLY_NEAR),
    CaseType("D15", "two brands", _same_id_of_two_brands, levels=_ONLY_NEAR),
    CaseType("D16", "orphan", _orphan, levels=_ONLY_OVER),
    CaseType("D16", "late bet", _late_bet),
    CaseType("D16", "orphan withdrawn", _orphan_withdrawn, "hold", _ONLY_OVER),
    CaseType("D16", "free round", _free_round, levels=_ONLY_NEAR),
    CaseType("D16", "prize", _prize, levels=_ONLY_NEAR),
    CaseType("D16", "win of nothing", _win_of_nothing, levels=_ONLY_NEAR),
    CaseType("D16", "win overtakes bet", _win_overtakes_bet, levels=_ONLY_NEAR),
    CaseType("D17", "after close", _after_close, "hold"),
    CaseType("D17", "settled late", _settled_late),
    CaseType("D17", "bet closes its round", _bet_closes_its_round, levels=_ONLY_NEAR),
    CaseType("D17", "bet sent again", _bet_sent_again, levels=_ONLY_NEAR),
    CaseType("D17", "close overtakes bet", _close_overtakes_bet, levels=_ONLY_NEAR),
    CaseType("D18", "bet while excluded", _bet_while_excluded, "block", _ONLY_OVER),
    CaseType("D18", "deposit while excluded", _deposit_while_excluded, "block", _ONLY_OVER),
    CaseType("D18", "news comes late", _news_comes_late, "block", _ONLY_OVER),
    CaseType("D18", "settled after exclusion", _settled_after_exclusion, levels=_ONLY_NEAR),
    CaseType("D18", "sent again after it", _sent_again_after_exclusion, levels=_ONLY_NEAR),
    CaseType("D18", "released", _released, levels=_ONLY_NEAR),
    CaseType("D18", "blocked by operator", _blocked_by_operator, levels=_ONLY_NEAR),
    CaseType("D18", "paid after exclusion", _paid_after_exclusion, levels=_ONLY_NEAR),
    CaseType("D20", "British stake", _british_stake, "block"),
    CaseType("D20", "German stake", _german_stake, "block"),
    CaseType("D20", "Spanish day", _spanish_day, "block"),
    CaseType("D20", "Spanish week", _spanish_week, "block"),
    CaseType("D20", "Spanish month", _spanish_month, "block"),
    CaseType("D20", "German month", _german_month, "block"),
    CaseType("D20", "own limit", _own_limit, "block"),
    CaseType("D20", "bet before limit", _bet_before_limit, levels=_ONLY_NEAR),
    CaseType("D20", "free and table", _free_and_table, levels=_ONLY_NEAR),
    CaseType("D20", "two days", _two_days, levels=_ONLY_NEAR),
)
