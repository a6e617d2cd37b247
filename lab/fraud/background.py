"""Ordinary players, and those who only look like a case: hard negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from lab.fraud.story import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, PlayerStory, Stream

_STAKES: Final = {"MT": 100, "GB": 100, "DE": 50, "SE": 1_000, "ES": 50, "CA-ON": 100}
_DEPOSITS: Final = {
    "MT": 5_000,
    "GB": 5_000,
    "DE": 4_000,
    "SE": 50_000,
    "ES": 4_000,
    "CA-ON": 5_000,
}


_MARKER_SHARE: Final = 0.3


def send_ordinary(
    stream: Stream,
    count: int,
    start_ms: int,
    span_ms: int,
    new_player: Callable[[str], PlayerStory] | None = None,
) -> list[str]:
    """Send `count` ordinary players: deposits, sessions of play, a withdrawal after them.

    Some show one marker of harm, which is not yet a case. `new_player` makes one of a region.
    Returns who they are.
    """
    players: list[str] = []
    for _ in range(count):
        region = stream.rng.choice(sorted(_STAKES))
        player = PlayerStory(stream, region) if new_player is None else new_player(region)
        players.append(player.player_id)
        stake = _STAKES[region]
        at_ms = start_ms + stream.rng.randrange(max(1, span_ms - 3 * DAY_MS))
        for _ in range(stream.rng.randint(1, 2)):
            player.report(at_ms - MINUTE_MS, "LOGIN", device=player.player_id, ip="home")
            player.deposit(at_ms, _DEPOSITS[region])
            rounds = 2 * _DEPOSITS[region] // stake // 4
            at_ms = player.play(
                at_ms + MINUTE_MS, min(rounds, 30), stake * 4 if region != "DE" else 100
            )
            at_ms += stream.rng.randint(6, 20) * HOUR_MS
        if stream.rng.random() < 0.2:
            needed = _DEPOSITS[region] * 3
            player.play(at_ms, 1, needed)
            player.withdraw(at_ms + HOUR_MS, _DEPOSITS[region])
        if stream.rng.random() < _MARKER_SHARE:
            stream.rng.choice(_ONE_MARKER)(player, at_ms + 2 * HOUR_MS)
    return players


def _cancel_withdrawals(player: PlayerStory, at_ms: int) -> None:
    for number in range(2):
        player.report(at_ms + number * HOUR_MS, "WITHDRAWAL_CANCELLED", withdrawal=f"w{number}")


def _raise_limits(player: PlayerStory, at_ms: int) -> None:
    for number in range(3):
        player.report(at_ms + number * HOUR_MS, "LIMIT_RAISED", what="deposit")


def _fail_deposits(player: PlayerStory, at_ms: int) -> None:
    for number in range(3):
        player.report(at_ms + number * HOUR_MS, "DEPOSIT_FAILED", instrument="card")


_ONE_MARKER: Final = (_cancel_withdrawals, _raise_limits, _fail_deposits)


def _high_roller(stream: Stream, at_ms: int) -> PlayerStory:
    player = PlayerStory(stream)
    for number in range(4):
        start_ms = at_ms + number * 6 * HOUR_MS
        player.deposit(start_ms, 1_000_000)
        player.play(start_ms + MINUTE_MS, 40, 50_000)
    player.withdraw(at_ms + DAY_MS, 900_000)
    return player


def _streamer(stream: Stream, at_ms: int) -> PlayerStory:
    """Play fast for an hour, 100 bets a minute: under what a person is asked about."""
    player = PlayerStory(stream)
    player.deposit(at_ms - HOUR_MS, 20_000)
    for number in range(800):
        player.bet(at_ms + number * 600, 50, game="slot-1")
    return player


def _crash_player(stream: Stream, at_ms: int) -> PlayerStory:
    player = PlayerStory(stream)
    player.deposit(at_ms - HOUR_MS, 20_000)
    for number in range(250):
        bet = player.bet(at_ms + number * 900, 50, game="crash-1")
        assert bet.round_id is not None
        player.win(at_ms + number * 900 + 600, 60, bet.round_id)
    return player


def _jackpot_winner(stream: Stream, at_ms: int) -> PlayerStory:
    player = PlayerStory(stream)
    player.deposit(at_ms, 10_000)
    end_ms = player.play(at_ms + MINUTE_MS, 30, 400)
    bet = player.bet(end_ms, 100)
    assert bet.round_id is not None
    player.win(end_ms + 2_000, 50_000_000, bet.round_id, kind="JACKPOT_WIN")
    player.withdraw(end_ms + HOUR_MS, 40_000_000)
    return player


def _promo_evening(stream: Stream, at_ms: int) -> PlayerStory:
    player = PlayerStory(stream)
    player.deposit(at_ms, 10_000)
    player.bonus(at_ms + MINUTE_MS, "BONUS_GRANT", 10_000, "welcome-eve")
    for number in range(60):
        when_ms = at_ms + 2 * MINUTE_MS + number * 4_000
        bet = player.bet(when_ms, 20, game="slot-2", is_free=True)
        assert bet.round_id is not None
        player.win(when_ms + 2_000, 40, bet.round_id, is_free=True)
    return player


def _clock_change(stream: Stream, at_ms: int) -> PlayerStory:
    """Deposit up to Spain's limit on each of the two days around the end of summer time."""
    del at_ms
    player = PlayerStory(stream, "ES")
    midnight_ms = 1_792_965_600_000  # 2026-10-26 00:00 in Madrid; the day before has 25 hours
    for when_ms in (midnight_ms - 24 * HOUR_MS - 1_800_000, midnight_ms + 1_800_000):
        player.deposit(when_ms, 60_000)
    return player


def _back_fill(stream: Stream, at_ms: int) -> PlayerStory:
    """Send the bets of four hours at once; the normaliser moved their times to its limit."""
    player = PlayerStory(stream)
    for number in range(700):
        bet = player.bet(at_ms + number * 2, 50)
        sent = stream.sent.pop()
        moved = msgspec.structs.replace(bet, provider_at=at_ms - (700 - number) * 20 * SECOND_MS)
        stream.sent.append(msgspec.structs.replace(sent, record=moved))
    return player


def _household(stream: Stream, at_ms: int) -> PlayerStory:
    """Two people at one address, with one network and their own devices and cards."""
    for _ in range(2):
        player = PlayerStory(stream)
        player.report(at_ms, "REGISTERED", address="street-1", affiliate="", born_on="1980-01-01")
        player.report(at_ms + 9_000, "LOGIN", device=player.player_id, ip="10.0.0.1")
        card = stream.next_name("card")
        player.report(at_ms + 15_000, "INSTRUMENT_ADDED", instrument=card)
        player.deposit(at_ms + MINUTE_MS, 5_000)
        at_ms = player.play(at_ms + 2 * MINUTE_MS, 10, 200)
    return player


HARD_NEGATIVES: Final[dict[str, Callable[[Stream, int], PlayerStory]]] = {
    "high roller": _high_roller,
    "streamer": _streamer,
    "shared household address": _household,
    "crash-game player": _crash_player,
    "jackpot winner": _jackpot_winner,
    "promo evening": _promo_evening,
    "clock change": _clock_change,
    "provider back-fill": _back_fill,
}
