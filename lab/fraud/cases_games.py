"""Cases about games and places: D09, D13 and D14, with computations of their own."""

from __future__ import annotations

import hashlib
import hmac
from math import acos, cos, degrees, radians, sin, sqrt
from typing import Any, Final

from lab.fraud.story import DAY_MS, HOUR_MS, MINUTE_MS, PlayerStory, send_result
from lab.fraud.truth import CaseType, CaseWriter, Level
from schemas.events import Attempt, GameResult

_ONLY_OVER: Final = (Level.OVER,)
_ONLY_NEAR: Final = (Level.NEAR,)
_EARTH_KM: Final = 6_371.0
_HOME: Final = (52.5, 13.4)


# --- D09: more than 1,000 km/h over at least 100 km


def _east_of_home(kilometres: float) -> tuple[float, float]:
    """Return the place so far east of home on its parallel (spherical law of cosines)."""
    north = radians(_HOME[0])
    angle = (cos(kilometres / _EARTH_KM) - sin(north) ** 2) / cos(north) ** 2
    return _HOME[0], _HOME[1] + degrees(acos(angle))


def _log_in(player: PlayerStory, at_ms: int, place: tuple[float, float], **facts: str) -> None:
    north, east = (str(round(degree * 10_000)) for degree in place)
    phone = f"phone of {player.player_id}"
    facts = {"device": phone, "network": "home", "ip": "ip", **facts}
    player.report(at_ms, "LOGIN", None, north=north, east=east, **facts)


def _journey(case: CaseWriter, kilometres: float, elapsed_ms: int, **facts: str) -> None:
    player = case.player()
    _log_in(player, case.at_ms, _HOME)
    _log_in(player, case.at_ms + elapsed_ms, _east_of_home(kilometres), **facts)
    case.complete(case.at_ms + elapsed_ms)


def _too_fast(case: CaseWriter) -> None:
    # Whole km/h above 1,000; the least distance is far from its border.
    speed = case.above(1_003, far=5) if case.level is not Level.NEAR else case.rng.randint(955, 997)
    _journey(case, speed * 1.5, round(1.5 * HOUR_MS))


def _far_enough(case: CaseWriter) -> None:
    kilometres = case.above(100, far=1.5) + (0.5 if case.level is not Level.NEAR else -0.5)
    _journey(case, kilometres, 2 * MINUTE_MS)


def _with_new_device(case: CaseWriter) -> None:
    _journey(case, 2_500, HOUR_MS, device=case.stream.next_name("tablet"))


def _with_changed_password(case: CaseWriter) -> None:
    player = case.player()
    _log_in(player, case.at_ms, _HOME)
    _log_in(player, case.at_ms + HOUR_MS, _east_of_home(3_000))
    # A day is the limit of the second sign: within it the money is held, after it a person looks.
    gap_ms = round(case.rng.uniform(0.5, 22) * HOUR_MS)
    if case.level is Level.EDGE:
        gap_ms = round(case.rng.uniform(0.955, 0.999) * DAY_MS)
    elif case.level is Level.NEAR:
        gap_ms = round(case.rng.uniform(1.001, 1.05) * DAY_MS)
    changed_ms = case.at_ms + HOUR_MS + gap_ms
    player.report(changed_ms, "CREDENTIAL_CHANGED", None, what="password")
    case.complete(changed_ms)


def _by_vpn(case: CaseWriter) -> None:
    _journey(case, 8_000, MINUTE_MS, network=case.rng.choice(["vpn", "hosting"]))


def _by_plane(case: CaseWriter) -> None:
    _journey(case, 6_000, 8 * HOUR_MS)


def _place_unknown(case: CaseWriter) -> None:
    player = case.player()
    _log_in(player, case.at_ms, _HOME)
    player.report(case.at_ms + MINUTE_MS, "LOGIN", None, network="mobile")


# --- D10: ten rounds a day in which two linked accounts cover both sides


def _cover(
    case: CaseWriter, rounds: int, difference: float, *, linked: bool = True, sides: str = ""
) -> None:
    """Send rounds at a table in which two players bet, with stakes that differ by a percentage."""
    first, second = case.player(), case.player()
    own = [case.stream.next_name("tablet") for _ in range(2)]
    first.report(case.at_ms - HOUR_MS, "LOGIN", None, device=own[0])
    second.report(case.at_ms - HOUR_MS, "LOGIN", None, device=own[0] if linked else own[1])
    one, other = (sides or "red black").split(" ")
    table = case.stream.next_name("roulette")
    for number in range(rounds):
        at_ms, round_id = case.at_ms + number * 20 * MINUTE_MS, case.stream.next_name("round")
        smaller = round(100_000 * (1 - difference / 100))
        for player, selection, stake in ((first, one, 100_000), (second, other, smaller)):
            sent = _result(
                case,
                table,
                player_id=player.player_id,
                selection=selection,
                stake_minor=stake,
                round_id=round_id,
                occurred_at=at_ms,
                outcome="7",
            )
            send_result(case.stream, sent, money=stake)
    case.complete(case.at_ms + 9 * 20 * MINUTE_MS)


def _both_sides(case: CaseWriter) -> None:
    _cover(case, {Level.OVER: 16, Level.EDGE: 10, Level.NEAR: 9}[case.level], 0)


def _nearly_equal(case: CaseWriter) -> None:
    least, most = {Level.OVER: (0, 2), Level.EDGE: (4.8, 4.98), Level.NEAR: (5.02, 5.2)}[case.level]
    _cover(case, 12, case.rng.uniform(least, most))


def _strangers(case: CaseWriter) -> None:
    _cover(case, 20, 0, linked=False)


def _same_side(case: CaseWriter) -> None:
    _cover(case, 20, 0, sides=case.rng.choice(["red red", "red even"]))


# --- D11: 30 hands, 80 % of the losses, 3 sigma


def _deal(case: CaseWriter, at_ms: int, table: str, nets: dict[str, int]) -> None:
    """Send one hand: what each player has won or lost."""
    round_id = case.stream.next_name("hand")
    for player, net in nets.items():
        sent = _result(
            case,
            table,
            player_id=player,
            stake_minor=10_000,
            payout_minor=10_000 + net,
            round_id=round_id,
            occurred_at=at_ms,
        )
        send_result(case.stream, sent, money=max(0, net))


def _dump(
    case: CaseWriter, hands: int, *, z: float = 12, share: float = 100, history: int = 40
) -> None:
    """Play with others around zero, and two days later lose to one."""
    loser, winner, third = (case.player().player_id for _ in range(3))
    table = case.stream.next_name("poker")
    for number in range(history):
        net = 100 if number % 2 else -100
        at_ms = case.at_ms - 2 * DAY_MS + number * MINUTE_MS
        _deal(case, at_ms, table, {loser: net, third: -net})
    # The history's mean is 0 and its sigma 100 where the number of hands is even.
    total = round(z * 100 * sqrt(hands))
    kept = round(total * share / 100)
    for number in range(hands):
        lost, own = (
            whole // hands if number else whole - (hands - 1) * (whole // hands)
            for whole in (total, kept)
        )
        nets = {loser: -lost, winner: own, third: lost - own}
        _deal(case, case.at_ms + number * MINUTE_MS, table, nets)
    case.complete(case.at_ms + 29 * MINUTE_MS)


def _enough_hands(case: CaseWriter) -> None:
    _dump(case, {Level.OVER: 45, Level.EDGE: 30, Level.NEAR: 29}[case.level])


def _most_losses(case: CaseWriter) -> None:
    least, most = {Level.OVER: (85, 99), Level.EDGE: (80.6, 83.5), Level.NEAR: (76.5, 79.5)}[
        case.level
    ]
    _dump(case, 30, z=40, share=case.rng.uniform(least, most))


def _unlike_before(case: CaseWriter) -> None:
    least, most = {Level.OVER: (3.5, 6), Level.EDGE: (3.02, 3.14), Level.NEAR: (2.86, 2.98)}[
        case.level
    ]
    _dump(case, 30, z=case.rng.uniform(least, most))


def _enough_history(case: CaseWriter) -> None:
    _dump(case, 30, history={Level.EDGE: 30, Level.NEAR: 29}[case.level])


def _heads_up(case: CaseWriter) -> None:
    """Two players who have only each other: there is nothing to compare with."""
    _dump(case, 60, history=0)


def _weak_player(case: CaseWriter) -> None:
    """Lose to two others alike."""
    loser, winner, third = (case.player().player_id for _ in range(3))
    table = case.stream.next_name("poker")
    for number in range(100):
        other = winner if number >= 50 else third
        at_ms = case.at_ms - (number < 50) * 2 * DAY_MS + number * MINUTE_MS
        lost = 100 + 60 * (number % 3)
        _deal(case, at_ms, table, {loser: -lost, other: lost})


# --- D13: 3 sigma away from the declared return


def _result(case: CaseWriter, game: str, **fields: Any) -> GameResult:
    usual: dict[str, Any] = {
        "selection": None,
        "outcome": None,
        "scheme": None,
        "committed_hash": None,
        "server_seed": None,
        "client_seed": None,
        "nonce": None,
        "player_id": None,
        "stake_minor": None,
        "payout_minor": None,
        "game_version": "1",
        "signature": "VALID",
        "brand": "aurora",
        "provider": "hub88",
        "occurred_at": case.at_ms,
    }
    usual |= fields
    name = case.stream.next_name("result")
    at_ms = usual["occurred_at"]
    return GameResult(
        event_id=name,
        provider_version="v1",
        region="MT",
        operation="result",
        provider_event_id=name,
        attempt=Attempt("provider.hub88.raw.v1", 0, 0),
        round_id=usual.pop("round_id", name),
        game_id=game,
        currency="EUR",
        bets_closed_at=at_ms - 1_000,
        outcome_known_at=at_ms,
        time_source="PROVIDER",
        provider_at=at_ms,
        received_at=at_ms,
        appended_at=at_ms,
        **usual,
    )


def _drift(case: CaseWriter, z: float, rounds: int) -> None:
    """Send rounds of dice whose payouts are z sigma off 99 %, with sigma 1 of a unit of stake."""
    # A brand of its own, since a game is looked at as a whole.
    brand = case.stream.next_name("brand")
    case.truth.keys.append(f"{brand}:dice-1/1:EUR")
    sign = case.rng.choice([1, -1])
    stake = 1_000
    total = round(0.99 * rounds * stake + sign * z * stake * sqrt(rounds))
    day_ms = case.at_ms - case.at_ms % DAY_MS
    for number in range(rounds):
        share = total // rounds if number else total - (rounds - 1) * (total // rounds)
        at_ms = day_ms + HOUR_MS + number * 100_000
        sent = _result(
            case, "dice-1", brand=brand, stake_minor=stake, payout_minor=share, occurred_at=at_ms
        )
        send_result(case.stream, sent, money=share)
    case.complete(day_ms + DAY_MS)


def _review_drift(case: CaseWriter) -> None:
    _drift(case, case.above(3_002, inclusive=False, far=1.2) / 1_000, 520)


def _hold_drift(case: CaseWriter) -> None:
    _drift(case, case.above(4_002, inclusive=False, far=2) / 1_000, 520)


def _enough_rounds(case: CaseWriter) -> None:
    _drift(case, 3.6, case.above(500, far=1.2))


def _right_return(case: CaseWriter) -> None:
    _drift(case, case.rng.uniform(0, 2), 600)


# --- D14: results that do not follow from their seeds


def _hash_text(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()


def _commit(case: CaseWriter, round_id: str, at_ms: int, digest: str, **more: Any) -> None:
    """Publish the hash of a round's seed."""
    fields = {"scheme": "wheel-hmac-sha256/1", "round_id": round_id, "committed_hash": digest}
    send_result(case.stream, _result(case, "wheel-1", occurred_at=at_ms, **(fields | more)))


def _spin(case: CaseWriter, *, published: str | None = "", **changes: Any) -> None:
    """Send a round of the wheel, right but for the changes.

    `published` is the hash that was published half a minute before it: that of the result itself
    unless another is given; None for no hash.
    """
    seed = _hash_text(str(case.rng.random()))
    client, nonce = case.stream.next_name("client"), case.rng.randrange(1_000)
    digest = hmac.new(seed.encode(), f"{client}:{nonce}".encode(), hashlib.sha256).hexdigest()
    segment = int(digest[:13], 16) % 8
    payouts = (0, 0, 0, 100, 100, 150, 200, 218)
    fields: dict[str, Any] = {
        "scheme": "wheel-hmac-sha256/1",
        "committed_hash": _hash_text(seed),
        "server_seed": seed,
        "client_seed": client,
        "nonce": nonce,
        "outcome": str(segment),
        "stake_minor": 330,
        "payout_minor": 330 * payouts[segment] // 100,
        "player_id": case.player().player_id,
        "round_id": case.stream.next_name("wheel"),
    }
    fields |= {name: change(fields) for name, change in changes.items()}
    if published is not None:
        published = published or fields["committed_hash"]
        _commit(case, fields["round_id"], case.at_ms - 30_000, published)
    send_result(case.stream, _result(case, "wheel-1", **fields), money=fields["payout_minor"])
    case.complete(case.at_ms)


def _other_seed(case: CaseWriter) -> None:
    _spin(case, committed_hash=lambda _: _hash_text("another seed"))


def _other_outcome(case: CaseWriter) -> None:
    _spin(case, outcome=lambda own: str((int(own["outcome"]) + 1) % 8))


def _other_payout(case: CaseWriter) -> None:
    _spin(case, payout_minor=lambda own: own["payout_minor"] + case.rng.choice([1, 5_000]))


def _not_committed(case: CaseWriter) -> None:
    """Send the hash with the seed it belongs to, and not before."""
    _spin(case, published=None)


def _other_commitment(case: CaseWriter) -> None:
    _spin(case, published=_hash_text("the seed of before"))


def _committed_late(case: CaseWriter) -> None:
    """Publish the hash when the bets are closed: the result says that of a second before it."""
    round_id, seed = case.stream.next_name("wheel"), _hash_text(str(case.rng.random()))
    _commit(case, round_id, case.at_ms - 500, _hash_text(seed))
    player = case.player().player_id
    fields = {"scheme": "none-registered/1", "round_id": round_id, "server_seed": seed}
    fields |= {"outcome": "5", "player_id": player, "committed_hash": _hash_text(seed)}
    result = _result(case, "wheel-1", payout_minor=700, **fields)
    send_result(case.stream, result, delay_ms=3_000, money=700)
    case.complete(case.at_ms)


def _send_unrevealed(case: CaseWriter, signature: str) -> None:
    """Send a result whose seed is to be revealed later."""
    _spin(
        case,
        server_seed=lambda _: None,
        client_seed=lambda _: None,
        signature=lambda _: signature,
    )


def _unrevealed_unsigned(case: CaseWriter) -> None:
    _send_unrevealed(case, case.rng.choice(["NOT_CHECKED", "STALE", "MISSING_ALLOWED"]))


def _unrevealed_signed(case: CaseWriter) -> None:
    _send_unrevealed(case, "VALID")


def _commitment_alone(case: CaseWriter) -> None:
    """Publish the hash of a round that is never played."""
    case.player()
    _commit(case, case.stream.next_name("wheel"), case.at_ms, _hash_text("x"), signature="STALE")


def _unsigned_result(case: CaseWriter) -> None:
    player = case.player()
    result = _result(
        case,
        "live-1",
        player_id=player.player_id,
        signature=case.rng.choice(["STALE", "NOT_CHECKED"]),
        outcome="17",
        payout_minor=9_000,
    )
    send_result(case.stream, result, money=9_000)
    case.complete(case.at_ms)


def _right_spin(case: CaseWriter) -> None:
    _spin(case)


def _hash_of_bytes(case: CaseWriter) -> None:
    _spin(
        case,
        committed_hash=lambda own: hashlib.sha256(bytes.fromhex(own["server_seed"])).hexdigest(),
    )


def _new_version(case: CaseWriter) -> None:
    _spin(case, game_version=lambda _: "2", scheme=lambda _: "wheel-hmac-sha256/2")


def _signed_result(case: CaseWriter) -> None:
    player = case.player()
    result = _result(case, "live-1", player_id=player.player_id, outcome="17")
    send_result(case.stream, result)


CASES: Final = (
    CaseType("D09", "too fast", _too_fast),
    CaseType("D09", "far enough", _far_enough),
    CaseType("D09", "new device", _with_new_device, "hold", _ONLY_OVER),
    CaseType("D09", "changed password", _with_changed_password, "hold", near_severity_max="review"),
    CaseType("D09", "by VPN", _by_vpn, levels=_ONLY_NEAR),
    CaseType("D09", "by plane", _by_plane, levels=_ONLY_NEAR),
    CaseType("D09", "place unknown", _place_unknown, levels=_ONLY_NEAR),
    CaseType("D10", "both sides", _both_sides),
    CaseType("D10", "nearly equal", _nearly_equal),
    CaseType("D10", "strangers", _strangers, levels=_ONLY_NEAR),
    CaseType("D10", "same side", _same_side, levels=_ONLY_NEAR),
    CaseType("D11", "enough hands", _enough_hands, "hold"),
    CaseType("D11", "most losses", _most_losses, "hold"),
    CaseType("D11", "unlike before", _unlike_before, "hold"),
    CaseType("D11", "enough history", _enough_history, "hold", (Level.EDGE, Level.NEAR)),
    CaseType("D11", "heads-up", _heads_up, levels=_ONLY_NEAR),
    CaseType("D11", "weak player", _weak_player, levels=_ONLY_NEAR),
    CaseType("D13", "3 sigma", _review_drift),
    CaseType("D13", "4 sigma", _hold_drift, "hold", near_severity_max="review"),
    CaseType("D13", "enough rounds", _enough_rounds, levels=(Level.EDGE, Level.NEAR)),
    CaseType("D13", "right return", _right_return, levels=_ONLY_NEAR),
    CaseType("D14", "other seed", _other_seed, "block", _ONLY_OVER),
    CaseType("D14", "other outcome", _other_outcome, "block", _ONLY_OVER),
    CaseType("D14", "other payout", _other_payout, "block", _ONLY_OVER),
    CaseType("D14", "not signed", _unsigned_result, "block", _ONLY_OVER),
    CaseType("D14", "not committed", _not_committed, "block", _ONLY_OVER),
    CaseType("D14", "other commitment", _other_commitment, "block", _ONLY_OVER),
    CaseType("D14", "committed late", _committed_late, "block", _ONLY_OVER),
    CaseType("D14", "seed kept, not signed", _unrevealed_unsigned, "block", _ONLY_OVER),
    CaseType("D14", "right result", _right_spin, levels=_ONLY_NEAR),
    CaseType("D14", "hash of bytes", _hash_of_bytes, levels=_ONLY_NEAR),
    CaseType("D14", "new version", _new_version, levels=_ONLY_NEAR),
    CaseType("D14", "signed result", _signed_result, levels=_ONLY_NEAR),
    CaseType("D14", "seed kept, signed", _unrevealed_signed, levels=_ONLY_NEAR),
    CaseType("D14", "commitment alone", _commitment_alone, levels=_ONLY_NEAR),
)
