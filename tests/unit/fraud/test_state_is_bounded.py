"""The state of the detectors is bounded: by the players of a time, and for each player."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.d08_multi_accounting import HUB
from fraud_agents.detectors.global_signals import GlobalDetectors, GlobalState
from fraud_agents.detectors.ordered import OrderedState
from fraud_agents.detectors.partition import PartitionState
from fraud_agents.detectors.player_memory import KNOWN_MS
from fraud_agents.detectors.shard import InputState, ShardDetectors
from lab.fraud.story import DAY_MS, MINUTE_MS, PlayerStory, Stream, send_result, send_signal
from schemas.events import Attempt, FraudAlert, GameResult
from schemas.heartbeats import player_heartbeat
from schemas.topics import PLAYER_EVENTS, SIGNALS, TRANSACTIONS

T0 = 1_788_739_200_000
YEARS = 4
DAYS = YEARS * 370


def make_result(stream: Stream, at_ms: int, **fields: Any) -> GameResult:
    """A result of a round of its own; of no player unless `fields` say so."""
    name = stream.next_name("result")
    seeds: dict[str, Any] = dict.fromkeys(
        ("outcome", "scheme", "committed_hash", "server_seed", "client_seed", "nonce")
    )
    usual: dict[str, Any] = {
        "game_id": "wheel-9",
        "round_id": name,
        "player_id": None,
        "stake_minor": None,
        "payout_minor": None,
        "selection": None,
    }
    return GameResult(
        event_id=name,
        brand="aurora",
        provider="hub88",
        provider_version="v1",
        region="MT",
        operation="result",
        provider_event_id=name,
        attempt=Attempt("provider.hub88.raw.v1", 0, 0),
        game_version="1",
        currency="EUR",
        bets_closed_at=at_ms - 1_000,
        outcome_known_at=at_ms,
        occurred_at=at_ms,
        time_source="PROVIDER",
        provider_at=at_ms,
        received_at=at_ms,
        appended_at=at_ms,
        signature="VALID",
        **seeds,
        **(usual | fields),
    )


class Watch:
    """The detectors of one partition and those over all, as the worker runs them."""

    def __init__(self) -> None:
        self.stream = Stream(9)
        self.shard = ShardDetectors(DEFAULT_RULES, 0)
        self.everywhere = GlobalDetectors(DEFAULT_RULES, 0, 1)
        self.offset = 0

    def show(self) -> list[FraudAlert]:
        """Show what was sent since the last time, in the order of event time."""
        alerts: list[FraudAlert] = []
        for sent in sorted(self.stream.sent, key=lambda one: one.record.occurred_at):
            alerts += self._show(sent.topic, sent.record)
        self.stream.sent.clear()
        return alerts

    def move_on(self, at_ms: int) -> list[FraudAlert]:
        """Have event time come to a moment in every topic."""
        PlayerStory(self.stream).bet(at_ms, 10)
        send_result(self.stream, make_result(self.stream, at_ms))
        [bet] = [sent.record for sent in self.stream.sent if sent.topic == TRANSACTIONS]
        beat = player_heartbeat(bet, str(at_ms))
        return [*self.show(), *self._show(PLAYER_EVENTS, beat)]

    def _show(self, topic: str, record) -> list[FraudAlert]:
        if topic == SIGNALS:
            self.offset += 1
            return self.everywhere.observe(SIGNALS, record, self.offset)
        alerts = self.shard.observe(topic, record, self.offset)
        for signal in self.shard.take_signals(topic, self.offset + 1):
            alerts += self.everywhere.observe(SIGNALS, signal, self.offset)
        self.offset += 1
        return alerts

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each rule's detectors in the snapshots."""
        sizes: dict[str, int] = {}
        for name, state in self._states():
            sizes[name] = sizes.get(name, 0) + len(state)
        return sizes

    def _states(self) -> Iterator[tuple[str, bytes]]:
        decode = msgspec.msgpack.decode
        for state in self.shard.states().values():
            own = decode(state, type=InputState)
            yield from decode(own.single, type=PartitionState).detectors.items()
            if own.merged:
                yield from decode(own.merged, type=OrderedState).detectors.items()
        [state] = self.everywhere.states().values()
        everywhere = decode(state, type=GlobalState)
        for merge in everywhere.merges:
            yield from decode(merge, type=OrderedState).detectors.items()
        yield from decode(everywhere.arriving, type=PartitionState).detectors.items()


def live(stream: Stream, at_ms: int, number: int) -> None:
    """A player's only day: something for each detector, and nothing that holds until it is lifted."""
    player = PlayerStory(stream, "MT")
    name = player.player_id
    player.report(at_ms, "REGISTERED", affiliate=f"a{number % 9}", address=name, government_id=name)
    player.report(at_ms + 1, "LOGIN", device=name, north="359000", east="145000")
    player.report(at_ms + 2, "INSTRUMENT_ADDED", instrument=name)
    player.report(at_ms + 3, "LOCATED", jurisdiction="MT")
    player.report(at_ms + 4, "LIMIT_RAISED", what="deposit")
    player.set_state(at_ms + 5, "player.blocked", "exclusion")
    player.set_state(at_ms + 6, "player.released", "exclusion")
    player.deposit(at_ms + 7, 1_000)
    player.bonus(at_ms + 8, "BONUS_GRANT", 100, f"free-{number}")
    bet = player.bet(at_ms + 9, 100, game="slot-1")
    player.win(at_ms + 10, 50, bet.round_id or "")
    player.withdraw(at_ms + MINUTE_MS, 100)
    send_signal(stream, at_ms, "BAD_SIGNATURE", f"psp-{number}", name)
    for selection, stake in (("red", 100), ("even", 200)):
        own = {"player_id": name, "game_id": "table-1", "payout_minor": 0}
        own |= {"selection": selection, "stake_minor": stake}
        send_result(stream, make_result(stream, at_ms + 11, **own))


def sizes_after_years(players: int) -> list[Mapping[str, int]]:
    """The sizes after two years, and at the end of as many again with as many other players."""
    watch, sizes = Watch(), []
    for day in range(DAYS):
        at_ms = T0 + day * DAY_MS
        for number in range(day * players // DAYS, (day + 1) * players // DAYS):
            live(watch.stream, at_ms + number, number)
        watch.show()
        watch.move_on(at_ms + DAY_MS - 1)
        if day + 1 in {DAYS // 2, DAYS}:
            sizes.append(watch.sizes())
    return sizes


@pytest.mark.parametrize(
    "players",
    [3 * YEARS * 37, pytest.param(100_000, marks=[pytest.mark.prove, pytest.mark.timeout(1_800)])],
)
def test_other_players_later_need_no_more_memory(players):
    middle, end = sizes_after_years(players)
    assert {name.partition("@")[0] for name in end} == {rule.rule_id for rule in DEFAULT_RULES}
    for name, size in end.items():
        # A year's players at both times, and a day's difference.
        assert size <= 1.1 * middle[name] + 2_000, (name, middle[name], size)


def affiliates_deposits(watch: Watch, silent_ms: int) -> list[FraudAlert]:
    """Players of one affiliate register, and after a silence get deposits that none confirmed."""
    players = [PlayerStory(watch.stream) for _ in range(3)]
    for player in players:
        player.report(T0, "REGISTERED", affiliate="partner")
    watch.show()
    watch.move_on(T0 + silent_ms - DAY_MS)
    for player in players:
        player.confirm(T0 + silent_ms, 100_000, None)
    alerts = watch.show()
    return [*alerts, *watch.move_on(T0 + silent_ms + DAY_MS)]


def linked_bets(watch: Watch, silent_ms: int) -> list[FraudAlert]:
    """Two players with one card take both sides, after a silence."""
    players = [PlayerStory(watch.stream) for _ in range(2)]
    for player in players:
        player.report(T0, "INSTRUMENT_ADDED", instrument="card")
    watch.show()
    watch.move_on(T0 + silent_ms - DAY_MS)
    for number in range(12):
        opposite_bets(watch.stream, players, T0 + silent_ms + number * MINUTE_MS)
    alerts = watch.show()
    return [*alerts, *watch.move_on(T0 + silent_ms + DAY_MS)]


def opposite_bets(stream: Stream, players, at_ms: int) -> None:
    round_id = stream.next_name("round")
    for player, selection in zip(players, ("red", "black"), strict=True):
        own = {"player_id": player.player_id, "game_id": "roulette-1", "payout_minor": 0}
        own |= {"selection": selection, "stake_minor": 1_000, "round_id": round_id}
        send_result(stream, make_result(stream, at_ms, **own))


@pytest.mark.parametrize(("play", "rule_id"), [(affiliates_deposits, "D03"), (linked_bets, "D10")])
def test_a_player_is_known_for_a_year_of_silence(play, rule_id):
    for silent_ms, is_found in ((KNOWN_MS - 1, True), (KNOWN_MS + DAY_MS, False)):
        watch = Watch()
        found = {alert.rule_id for alert in play(watch, silent_ms)}
        assert (rule_id in found) == is_found, silent_ms


def test_one_player_on_both_sides_is_not_two_linked_players():
    watch = Watch()
    player = PlayerStory(watch.stream)
    player.report(T0, "INSTRUMENT_ADDED", instrument="card")
    for number in range(12):
        opposite_bets(watch.stream, [player, player], T0 + number * MINUTE_MS)
    alerts = [*watch.show(), *watch.move_on(T0 + DAY_MS)]
    assert "D10" not in {alert.rule_id for alert in alerts}


def be_busy(watch: Watch, player: PlayerStory, numbers: range) -> None:
    """One player opens, registers, is excluded and raises limits again and again."""
    for number in numbers:
        at_ms = T0 + number * 20
        player.open_deposit(at_ms, 100)
        player.set_state(at_ms, "player.blocked", "exclusion")
        player.report(at_ms, "LIMIT_RAISED", what="deposit")
        player.report(at_ms, "LOGIN", device=f"device-{number}")
        player.report(at_ms, "INSTRUMENT_ADDED", instrument=f"card-{number}")
        player.report(at_ms, "REGISTERED", government_id=f"id-{number}")
        player.bonus(at_ms, "BONUS_GRANT", 100, f"welcome-{number}")
        opposite_bets(watch.stream, [player, player], at_ms)
        send_signal(watch.stream, at_ms, "BAD_SIGNATURE", "psp", player.player_id)
    watch.show()


@pytest.mark.parametrize(
    "count", [1_200, pytest.param(10_000, marks=[pytest.mark.prove, pytest.mark.timeout(1_200)])]
)
def test_one_player_needs_no_more_than_a_bound(count):
    """Two days of such a player are no larger than one."""
    watch, sizes = Watch(), []
    player = PlayerStory(watch.stream)
    for day in range(2):
        be_busy(watch, player, range(day * count, (day + 1) * count))
        sizes.append(watch.sizes())
    for name, size in sizes[1].items():
        assert size <= 1.2 * sizes[0][name] + 20_000, (name, sizes[0][name], size)


def log_in(watch: Watch, players, devices, at_ms: int, every_ms: int = 1_000) -> list[FraudAlert]:
    """Have each player log in with each device, one device after the other."""
    for number, (device, player) in enumerate((d, p) for d in devices for p in players):
        player.report(at_ms + number * every_ms, "LOGIN", None, device=device)
    return watch.show()


def d08_of(alerts) -> list[FraudAlert]:
    return [alert for alert in alerts if alert.rule_id == "D08"]


def test_a_card_is_known_however_many_devices_its_player_shows():
    watch = Watch()
    first, second = (PlayerStory(watch.stream) for _ in range(2))
    first.report(T0, "INSTRUMENT_ADDED", None, instrument="card")
    log_in(watch, [first], [f"device-{number}" for number in range(500)], T0 + 1)
    second.report(T0 + DAY_MS, "INSTRUMENT_ADDED", None, instrument="card")
    [alert] = d08_of([*watch.show(), *watch.move_on(T0 + 2 * DAY_MS)])
    assert alert.reason == "INSTRUMENT"


@pytest.mark.parametrize(("others", "is_found"), [(63, True), (64, False)])
def test_of_one_player_the_devices_that_they_used_last_are_known(others, is_found):
    watch = Watch()
    players = [PlayerStory(watch.stream) for _ in range(3)]
    log_in(watch, players[:2], ["shared"], T0)
    log_in(watch, players[:1], [f"device-{number}" for number in range(others)], T0 + MINUTE_MS)
    log_in(watch, players[2:], ["shared"], T0 + DAY_MS)
    assert bool(d08_of(watch.move_on(T0 + 2 * DAY_MS))) == is_found


def test_things_that_very_many_share_are_bounded_by_their_players_too():
    sizes = []
    for devices in (80, 160):
        watch = Watch()
        players = [PlayerStory(watch.stream) for _ in range(HUB + 2)]
        log_in(watch, players, [f"device-{number}" for number in range(devices)], T0, 20)
        watch.move_on(T0 + 60 * DAY_MS)  # the alerts are closed
        sizes.append(watch.sizes()["D08@1"])
    assert sizes[1] <= 1.2 * sizes[0]


def test_a_thing_that_very_many_share_stays_one_while_it_is_used():
    watch = Watch()
    players = [PlayerStory(watch.stream) for _ in range(HUB + 5)]
    log_in(watch, players[: HUB + 1], ["cafe"], T0, 20)
    watch.move_on(T0 + MINUTE_MS)
    for day in range(1, 100):  # the same two, who log in elsewhere as well
        log_in(watch, players[-2:], ["cafe", f"device-{day}"], T0 + day * DAY_MS)
    assert d08_of(watch.move_on(T0 + 101 * DAY_MS)) == []
