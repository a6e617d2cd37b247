"""What a question is answered with, from the session that it names and the ledger's snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.decisions.routes import DEFAULT_BRAND, Route
from gateway.decisions.sessions import PlayerSession
from schemas.current_player import CurrentPlayer, CurrentWallet
from schemas.events import Outcome
from schemas.money import exponent_of
from streams.providers.questions import UNKNOWN_PLAYER, PlayerStatus, Question

_NAME_OF_DEFAULT: Final = "default"
"""How the ledger's tables name the brand of records that have no header of that name."""


def player_of(
    route: Route, question: Question, session: PlayerSession | None, at_ms: int
) -> str | None:
    """Return whom a question is about; None where it names a session that is unknown or over.

    A player who is named beside a session must be its own. Of a provider whose bets need a session
    a token must be of this casino's making, unless one currency is stated for all wallets.
    """
    if session is None:
        is_foreign = bool(question.token) and route.face.session_token is not None
        is_unknown = question.needs_session or (is_foreign and not route.currency)
        return None if is_unknown else question.player_id
    if question.needs_session and session.ends_s * 1000 <= at_ms:
        return None
    if question.player_id is not None and question.player_id != session.player:
        return None
    return session.player


def decide_status(
    route: Route,
    question: Question,
    player_id: str,
    session: PlayerSession | None,
    player: CurrentPlayer,
) -> PlayerStatus:
    """Return what is to be answered about a player, as the ledger has them now.

    The currency is the question's, else the session's, else the installation's, else that of the
    only wallet. Without any wallet the player has nothing of a currency that is named. A player of
    another brand is not known to this one.
    """
    brand = route.brand if route.brand != DEFAULT_BRAND else _NAME_OF_DEFAULT
    if any(wallet.brand not in {"", brand} for wallet in player.wallets):
        return PlayerStatus(UNKNOWN_PLAYER, player_id)
    named = question.currency or (session.currency if session else "") or route.currency
    wallet = _select(player.wallets, named)
    if wallet is None:
        if not question.needs_wallet:
            blocked = Outcome.REFUSED_BLOCKED if player.is_blocked else Outcome.POSTED
            return PlayerStatus(blocked.value, player_id)
        if player.wallets:
            return PlayerStatus(Outcome.REFUSED_CURRENCY.value, player_id)
        if not named:
            return PlayerStatus(UNKNOWN_PLAYER, player_id)
        wallet = CurrentWallet(named, exponent_of(named), 0, 0)
    return PlayerStatus(
        _outcome_of(player, wallet.currency),
        player_id,
        wallet.currency,
        wallet.scale,
        wallet.available_minor,
        question.token,
    )


def _outcome_of(player: CurrentPlayer, currency: str) -> str:
    if player.is_blocked:
        return Outcome.REFUSED_BLOCKED.value
    is_limited = player.bet_limits.get(currency) == 0
    return Outcome.REFUSED_LIMIT.value if is_limited else Outcome.POSTED.value


def _select(wallets: Sequence[CurrentWallet], currency: str) -> CurrentWallet | None:
    if not currency:
        return wallets[0] if len(wallets) == 1 else None
    return next((wallet for wallet in wallets if wallet.currency == currency), None)
