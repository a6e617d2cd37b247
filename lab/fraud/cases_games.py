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


# --- D13: 3 sigma away from the declared return


def _result(case: CaseWriter, game: str, **fields: Any) -> GameResult:
    usual: dict[str, Any] = {
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


def _spin(case: CaseWriter, *, seed: str = "", **changes: Any) -> None:
    """Send a round of the wheel, right but for the changes."""
    seed = seed or hashlib.sha256(str(case.rng.random()).encode()).hexdigest()
    client, nonce = case.stream.next_name("client"), case.rng.randrange(1_000)
    digest = hmac.new(seed.encode(), f"{client}:{nonce}".encode(), hashlib.sha256).hexdigest()
    segment = int(digest[:13], 16) % 8
    payouts = (0, 0, 0, 100, 100, 150, 200, 218)
    fields: dict[str, Any] = {
        "scheme": "wheel-hmac-sha256/1",
        "committed_hash": hashlib.sha256(seed.encode()).hexdigest(),
        "server_seed": seed,
        "client_seed": client,
        "nonce": nonce,
        "outcome": str(segment),
        "stake_minor": 330,
        "payout_minor": 330 * payouts[segment] // 100,
        "player_id": case.player().player_id,
    }
    fields |= {name: change(fields) for name, change in changes.items()}
    result = _result(case, "wheel-1", **fields)
    send_result(case.stream, result, money=fields["payout_minor"])
    case.complete(case.at_ms)


def _other_seed(case: CaseWriter) -> None:
    _spin(case, committed_hash=lambda _: hashlib.sha256(b"another seed").hexdigest())


def _other_outcome(case: CaseWriter) -> None:
    _spin(case, outcome=lambda own: str((int(own["outcome"]) + 1) % 8))


def _other_payout(case: CaseWriter) -> None:
    _spin(case, payout_minor=lambda own: own["payout_minor"] + case.rng.choice([1, 5_000]))


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
    CaseType("D13", "3 sigma", _review_drift),
    CaseType("D13", "4 sigma", _hold_drift, "hold", near_severity_max="review"),
    CaseType("D13", "enough rounds", _enough_rounds, levels=(Level.EDGE, Level.NEAR)),
    CaseType("D13", "right return", _right_return, levels=_ONLY_NEAR),
    CaseType("D14", "other seed", _other_seed, "block", _ONLY_OVER),
    CaseType("D14", "other outcome", _other_outcome, "block", _ONLY_OVER),
    CaseType("D14", "other payout", _other_payout, "block", _ONLY_OVER),
    CaseType("D14", "not signed", _unsigned_result, "block", _ONLY_OVER),
    CaseType("D14", "right result", _right_spin, levels=_ONLY_NEAR),
    CaseType("D14", "hash of bytes", _hash_of_bytes, levels=_ONLY_NEAR),
    CaseType("D14", "new version", _new_version, levels=_ONLY_NEAR),
    CaseType("D14", "signed result", _signed_result, levels=_ONLY_NEAR),
)
