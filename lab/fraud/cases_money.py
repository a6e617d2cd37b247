"""Cases about money that comes and goes: D01, D02, D02B, D04 to D07.

Numbers are those of the definitions.
"""

from __future__ import annotations

from typing import Final

import msgspec

from lab.fraud.story import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, PlayerStory, send_signal
from lab.fraud.truth import CaseType, CaseWriter, Level
from schemas.events import Reference

_ONLY_OVER: Final = (Level.OVER,)
_ONLY_NEAR: Final = (Level.NEAR,)


# --- D01: 500 bets in any 60 s hold the money, 120 are looked at


def _burst(case: CaseWriter, count: int, decisive: int) -> None:
    player = case.player()
    start_ms = case.at_ms + case.rng.randrange(MINUTE_MS)
    # 56 s: within 60 of any counting, and over the border of a minute as often as not.
    times = sorted(start_ms + case.rng.randrange(56 * SECOND_MS) for _ in range(count))
    for at_ms in times:
        player.bet(at_ms, 20, game="slot-7", money=20)
    case.complete(times[min(decisive, count) - 1])


def _hold(case: CaseWriter) -> None:
    _burst(case, case.above(500, far=1.4), 500)


def _warn(case: CaseWriter) -> None:
    _burst(case, case.above(120, far=3.0), 120)


# --- D02: a deposit that no payment provider has confirmed


def _from_stranger(case: CaseWriter) -> None:
    player = case.player()
    sender = case.rng.choice(["clickpartner", "crm"])
    reference = player.open_deposit(case.at_ms, 50_000)
    for number in range(case.rng.randint(1, 4)):
        at_ms = case.at_ms + 5_000 + number * 2_000
        player.confirm(at_ms, 50_000, reference, provider=sender, money=50_000)
    case.complete(case.at_ms + 5_000)


def _unsigned(case: CaseWriter) -> None:
    player = case.player()
    reference = player.open_deposit(case.at_ms, 30_000)
    verdict = case.rng.choice(["STALE", "NOT_CHECKED", "MISSING_ALLOWED"])
    player.confirm(case.at_ms + 4_000, 30_000, reference, signature=verdict, money=30_000)
    case.complete(case.at_ms + 4_000)


def _without_reference(case: CaseWriter) -> None:
    player = case.player()
    player.confirm(case.at_ms, 25_000, None, money=25_000)
    case.complete(case.at_ms)


def _more_than_opened(case: CaseWriter) -> None:
    player = case.player()
    reference = player.open_deposit(case.at_ms, 10_000)
    # A unit of rounding is none; at NEAR the capture is partial, which is right.
    amount = case.above(10_001, inclusive=False)
    player.confirm(case.at_ms + 4_000, amount, reference, money=amount)
    case.complete(case.at_ms + 4_000)


def _other_currency(case: CaseWriter) -> None:
    player = case.player()
    reference = player.open_deposit(case.at_ms, 10_000)
    player.confirm(case.at_ms + 4_000, 10_000, reference, currency="KWD", money=10_000)
    case.complete(case.at_ms + 4_000)


def _never_opened(case: CaseWriter) -> None:
    player = case.player()
    player.confirm(case.at_ms, 40_000, player.stream.next_name("lost"), money=40_000)
    case.complete(case.at_ms + 15 * MINUTE_MS)


def _opened_late(case: CaseWriter) -> None:
    player = case.player()
    reference = player.stream.next_name("late")
    player.confirm(case.at_ms, 40_000, reference, money=40_000)
    late_ms = case.above(15 * MINUTE_MS, inclusive=False)
    player.open_deposit(case.at_ms + late_ms, 40_000, tx_id=reference)
    case.complete(case.at_ms + 15 * MINUTE_MS)


def _notice_sent_again(case: CaseWriter) -> None:
    player = case.player()
    reference = player.open_deposit(case.at_ms, 20_000)
    for number in range(3):
        player.confirm(case.at_ms + 3_000 + number * 9_000, 20_000, reference, tx_id=reference)


def _refund_failed(case: CaseWriter) -> None:
    player = case.player()
    player.deposit(case.at_ms, 20_000)
    player.send(
        case.at_ms + HOUR_MS,
        "REFUND_FAILED",
        [player.leg("DEPOSIT", 20_000)],
        provider="adyen",
        reference=Reference("AUTHORISATION", "earlier"),
    )


# --- D02B: 20 wrong signatures of a provider, or 5 that name one player, in ten minutes


def _forge(case: CaseWriter, times: list[int], player_id: str | None = None) -> None:
    """Send wrong signatures of a provider of its own: one is looked at as a whole."""
    provider = case.stream.next_name("psp")
    case.truth.keys.append(f"aurora:{provider}")
    for at_ms in times:
        send_signal(case.stream, at_ms, "BAD_SIGNATURE", provider, player_id)


def _forged_records(case: CaseWriter) -> None:
    count = case.above(20, far=3)
    times = sorted(case.at_ms + case.rng.randrange(9 * MINUTE_MS) for _ in range(count))
    _forge(case, times)
    case.complete(times[min(20, count) - 1])


def _forged_in_time(case: CaseWriter) -> None:
    times = _spread(case, 20, 10 * MINUTE_MS)
    _forge(case, times)
    case.complete(times[-1])


def _forged_for_one(case: CaseWriter) -> None:
    times = _spread(case, 7 if case.level is Level.OVER else 5, 10 * MINUTE_MS)
    _forge(case, times, case.player().player_id)
    case.complete(times[4])


def _forged_read_again(case: CaseWriter) -> None:
    """Read one wrong record thirty times, as a normaliser does that is killed again and again."""
    _forge(case, [case.at_ms])
    sent = case.stream.sent[-1]
    for number in range(1, 30):
        at_ms = sent.append_ms + number * SECOND_MS
        case.stream.sent.append(msgspec.structs.replace(sent, append_ms=at_ms))


def _forged_of_two(case: CaseWriter) -> None:
    for _ in range(2):
        _forge(case, [case.at_ms + number * SECOND_MS for number in range(12)])


def _stale_signatures(case: CaseWriter) -> None:
    """Send right signatures from outside their window: a queue that was stuck."""
    provider = case.stream.next_name("psp")
    for number in range(30):
        at_ms = case.at_ms + number * SECOND_MS
        send_signal(case.stream, at_ms, "STALE_SIGNATURE", provider)


# --- D04: payments of 70 % to 100 % of what has to be reported


def _structured(case: CaseWriter, player: PlayerStory, reported: int, every_ms: int) -> None:
    count = 4 if case.level is Level.OVER else 3
    at_ms = case.at_ms
    low = reported * 70 // 100
    for number in range(count):
        if case.level is Level.EDGE:
            amount = case.rng.randint(low, round(low * 1.05))
        elif case.level is Level.NEAR:
            amount = case.rng.randint(round(low * 0.95), low - 1)
        else:
            amount = case.rng.randint(round(low * 1.05), reported - 1)
        player.deposit(at_ms, amount, money=amount)
        if number == 2:
            case.complete(at_ms + 5_000)
        at_ms += every_ms


def _one_day(case: CaseWriter) -> None:
    _structured(case, case.player(), 200_000, 5 * HOUR_MS)


def _one_week(case: CaseWriter) -> None:
    _structured(case, case.player(), 200_000, 36 * HOUR_MS)


def _ontario(case: CaseWriter) -> None:
    _structured(case, case.player("CA-ON"), 1_000_000, 4 * HOUR_MS)


def _new_jersey(case: CaseWriter) -> None:
    _structured(case, case.player("US-NJ"), 1_000_000, 4 * HOUR_MS)


def _withdrawals(case: CaseWriter) -> None:
    player = case.player()
    for number in range(3):
        amount = case.rng.randint(145_000, 199_000)
        player.withdraw(case.at_ms + number * 6 * HOUR_MS, amount, money=amount)
    case.complete(case.at_ms + 12 * HOUR_MS)


def _two_payments(case: CaseWriter) -> None:
    player = case.player()
    for number in range(2):
        player.deposit(case.at_ms + number * 3 * HOUR_MS, 150_000)


def _reported_anyway(case: CaseWriter) -> None:
    player = case.player()
    for number in range(3):
        amount = case.rng.randint(200_000, 210_000)
        player.deposit(case.at_ms + number * 3 * HOUR_MS, amount)


def _spread_out(case: CaseWriter) -> None:
    player = case.player()
    for number in range(3):
        player.deposit(case.at_ms + number * 4 * DAY_MS, 150_000)


# --- D05: stakes below the deposits at a withdrawal


def _little_play(case: CaseWriter, deposited: int, staked: int, amount: int) -> None:
    player = case.player()
    player.deposit(case.at_ms, deposited // 2)
    player.deposit(case.at_ms + HOUR_MS, deposited - deposited // 2)
    at_ms = case.at_ms + 2 * HOUR_MS
    for _ in range(4):
        player.bet(at_ms, staked // 4)
        at_ms += 30_000
    player.bet(at_ms, staked - 4 * (staked // 4))
    player.bet(at_ms + 1_000, 5_000, is_free=True)  # free bets are no stakes
    at_ms += HOUR_MS
    player.withdraw(at_ms, amount, money=amount)
    case.complete(at_ms)


def _below_turnover(case: CaseWriter) -> None:
    _little_play(case, 30_000, case.below(30_000, far=0.5), 20_000)


def _low_turnover(case: CaseWriter) -> None:
    _little_play(case, 200_000, case.below(60_000), 150_000)


def _large_amount(case: CaseWriter) -> None:
    _little_play(case, 120_000, 12_000, case.above(50_000, inclusive=False))


def _early_win(case: CaseWriter) -> None:
    player = case.player()
    player.deposit(case.at_ms, 20_000)
    bet = player.bet(case.at_ms + MINUTE_MS, 20_000)
    assert bet.round_id is not None
    player.win(case.at_ms + 2 * MINUTE_MS, 900_000, bet.round_id)
    player.withdraw(case.at_ms + HOUR_MS, 850_000)


# --- D06: bonuses


def _second_welcome(case: CaseWriter) -> None:
    player = case.player()
    player.deposit(case.at_ms, 50_000)
    for number in range(2):
        at_ms = case.at_ms + HOUR_MS + number * DAY_MS
        player.bonus(at_ms, "BONUS_GRANT", 5_000, f"welcome-{number}", money=5_000)
    case.complete(case.at_ms + HOUR_MS + DAY_MS)


def _low_edge(case: CaseWriter) -> None:
    player = case.player()
    player.deposit(case.at_ms, 100_000)
    player.bonus(case.at_ms + HOUR_MS, "BONUS_GRANT", 10_000, "reload-a", money=10_000)
    low = case.above(9_000, inclusive=False, far=1.1)
    at_ms = case.at_ms + 2 * HOUR_MS
    for _ in range(5):
        player.bet(at_ms, low * 4, game="blackjack-2")
        player.bet(at_ms + 1_000, (10_000 - low) * 4, game="slot-3")
        at_ms += MINUTE_MS
    player.bonus(at_ms, "BONUS_RELEASE", 10_000, "reload-a", money=10_000)
    case.complete(at_ms)


def _bonus_ratio(case: CaseWriter) -> None:
    player = case.player()
    player.deposit(case.at_ms, 100_000)
    total = case.above(80_000, inclusive=False, far=1.5)
    for number, share in enumerate((total // 3, total // 3, total - 2 * (total // 3))):
        at_ms = case.at_ms + HOUR_MS + number * 2 * DAY_MS
        player.bonus(at_ms, "BONUS_GRANT", share, f"reload-{number}", money=share)
    case.complete(case.at_ms + HOUR_MS + 4 * DAY_MS)


def _after_first_play(case: CaseWriter) -> None:
    player = case.player("SE")
    player.deposit(case.at_ms, 100_000)
    bet_ms = case.at_ms + HOUR_MS
    player.bet(bet_ms, 1_000)
    bonus_ms = bet_ms + (HOUR_MS if case.level is Level.OVER else -10 * MINUTE_MS)
    player.bonus(bonus_ms, "BONUS_GRANT", 10_000, "reload-se", money=10_000)
    case.complete(bonus_ms)


def _one_welcome(case: CaseWriter) -> None:
    player = case.player()
    player.deposit(case.at_ms, 10_000)
    player.bonus(case.at_ms + HOUR_MS, "BONUS_GRANT", 10_000, "welcome-1")


# --- D07: more acts than a person has a reason for


def _spread(case: CaseWriter, count: int, window_ms: int) -> list[int]:
    """Return times of `count` acts that span nearly the window, or at NEAR a little more."""
    span_ms = round(window_ms * (1.03 if case.level is Level.NEAR else 0.97))
    if case.level is Level.OVER:
        span_ms //= 2
    inner = sorted(case.rng.randrange(1, span_ms) for _ in range(count - 2))
    return [case.at_ms, *(case.at_ms + one for one in inner), case.at_ms + span_ms]


def _deposits(case: CaseWriter) -> None:
    player = case.player()
    times = _spread(case, 13 if case.level is Level.OVER else 10, HOUR_MS)
    for at_ms in times:
        player.open_deposit(at_ms, 2_000, money=2_000)
    case.complete(times[9])


def _facts(case: CaseWriter, fact: str, attribute: str, count: int, window_ms: int) -> None:
    player = case.player()
    times = _spread(case, count, window_ms)
    for at_ms in times:
        player.report(at_ms, fact, None, **{attribute: player.stream.next_name(attribute)})
    case.complete(times[-1])


def _instruments(case: CaseWriter) -> None:
    _facts(case, "INSTRUMENT_ADDED", "instrument", 3, DAY_MS)


def _failed_deposits(case: CaseWriter) -> None:
    _facts(case, "DEPOSIT_FAILED", "instrument", 5, 10 * MINUTE_MS)


def _failed_logins(case: CaseWriter) -> None:
    _facts(case, "LOGIN_FAILED", "device", 3, HOUR_MS)


def _password_found(case: CaseWriter) -> None:
    player = case.player()
    for number in range(2):
        at_ms = case.at_ms + number * 5 * MINUTE_MS
        player.report(at_ms, "LOGIN_FAILED", 100)
        player.report(at_ms + 10_000, "LOGIN_FAILED", 100)
        player.report(at_ms + 20_000, "LOGIN", 100)


CASES: Final = (
    CaseType("D01", "500 in a minute", _hold, "hold", near_severity_max="review"),
    CaseType("D01", "120 in a minute", _warn),
    CaseType("D02", "sent by a stranger", _from_stranger, "block", _ONLY_OVER),
    CaseType("D02", "not signed", _unsigned, "block", _ONLY_OVER),
    CaseType("D02", "names no deposit", _without_reference, "block", _ONLY_OVER),
    CaseType("D02", "more than opened", _more_than_opened, "block"),
    CaseType("D02", "other currency", _other_currency, "block", _ONLY_OVER),
    CaseType("D02", "never opened", _never_opened, "hold", _ONLY_OVER),
    CaseType("D02", "opened too late", _opened_late, "hold"),
    CaseType("D02", "notice sent again", _notice_sent_again, levels=_ONLY_NEAR),
    CaseType("D02", "refund failed", _refund_failed, levels=_ONLY_NEAR),
    CaseType("D02B", "of a provider", _forged_records),
    CaseType("D02B", "within ten minutes", _forged_in_time, levels=(Level.EDGE, Level.NEAR)),
    CaseType("D02B", "for one player", _forged_for_one),
    CaseType("D02B", "read again", _forged_read_again, levels=_ONLY_NEAR),
    CaseType("D02B", "of two providers", _forged_of_two, levels=_ONLY_NEAR),
    CaseType("D02B", "stale", _stale_signatures, levels=_ONLY_NEAR),
    CaseType("D04", "in a day", _one_day),
    CaseType("D04", "in a week", _one_week),
    CaseType("D04", "in Ontario", _ontario),
    CaseType("D04", "in New Jersey", _new_jersey),
    CaseType("D04", "withdrawals", _withdrawals, levels=_ONLY_OVER),
    CaseType("D04", "two payments", _two_payments, levels=_ONLY_NEAR),
    CaseType("D04", "reported anyway", _reported_anyway, levels=_ONLY_NEAR),
    CaseType("D04", "spread out", _spread_out, levels=_ONLY_NEAR),
    CaseType("D05", "below one turnover", _below_turnover, "info"),
    CaseType("D05", "below 30 percent", _low_turnover, "hold", near_severity_max="info"),
    CaseType("D05", "above EUR 500", _large_amount, "hold", near_severity_max="info"),
    CaseType("D05", "early win", _early_win, levels=_ONLY_NEAR),
    CaseType("D06", "second welcome", _second_welcome, levels=(Level.EDGE,)),
    CaseType("D06", "low edge", _low_edge),
    CaseType("D06", "bonus ratio", _bonus_ratio),
    CaseType("D06", "after first play", _after_first_play, "hold", (Level.OVER, Level.NEAR)),
    CaseType("D06", "one welcome", _one_welcome, levels=_ONLY_NEAR),
    CaseType("D07", "deposits", _deposits),
    CaseType("D07", "instruments", _instruments, levels=(Level.EDGE, Level.NEAR)),
    CaseType("D07", "failed deposits", _failed_deposits, levels=(Level.EDGE, Level.NEAR)),
    CaseType("D07", "failed logins", _failed_logins, levels=(Level.EDGE, Level.NEAR)),
    CaseType("D07", "password found", _password_found, levels=_ONLY_NEAR),
)
