"""Questions of providers: balances and sessions, answered from the ledger's tables in real time.

A question is never appended. It is answered by one statement of a read-only session. Where that
reads a copy of the database that is behind, the question waits until the copy has what its provider
was answered before: an answer to a bet, and the balance that is asked for next, agree.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from gateway.decisions.questions import decide_status, player_of
from gateway.decisions.reading import CallRecord, FindSession, Received
from gateway.decisions.routes import Route
from gateway.stats import GatewayStats
from schemas.current_player import CurrentPlayer
from schemas.errors import RejectCode, Rejected, Unavailable
from schemas.events import WalletOutcome
from streams.providers.dialect import Dialect, Reply
from streams.providers.keyring import Keyring, question_reader_of
from streams.providers.questions import QuestionReader

PLAYERS_MAX: Final = 50_000
"""Players whose last answers are remembered, the latest ones: some 20 MB. A copy that is behind by
more players than that is of no use.
"""
BEHIND_MAX_S: Final = 1.0
"""How long a question waits for a copy that is behind, before its provider gets its error."""
BEHIND_STEP_S: Final = 0.02

_FORGED: Final = frozenset({RejectCode.BAD_SIGNATURE, RejectCode.MISSING_SIGNATURE})


class PlayerSource(Protocol):
    """Where players are read, in real time."""

    async def read_player(self, player_id: str) -> CurrentPlayer:
        """Return a player as the ledger has them now. Raises Unavailable."""


class AnsweredVersions:
    """The highest version of each wallet that a provider was answered with, by player."""

    def __init__(self, players_max: int = PLAYERS_MAX) -> None:
        """Remember nothing yet; beyond `players_max` the one goes whose last answer is oldest."""
        self._players_max = players_max
        self._versions: OrderedDict[str, dict[str, int]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many players are remembered."""
        return len(self._versions)

    def note(self, player_id: str | None, currency: str | None, version: int | None) -> None:
        """Note an answer; one that was given before and comes again changes nothing."""
        if player_id is None or currency is None or version is None:
            return
        versions = self._versions.setdefault(player_id, {})
        versions[currency] = max(version, versions.get(currency, 0))
        self._versions.move_to_end(player_id)
        if len(self._versions) > self._players_max:
            self._versions.popitem(last=False)

    def note_outcomes(self, outcomes: Sequence[WalletOutcome]) -> None:
        """Note the outcomes that a call was answered with."""
        for outcome in outcomes:
            self.note(outcome.player_id, outcome.currency, outcome.version)

    def are_reached(self, player_id: str, player: CurrentPlayer) -> bool:
        """Return whether a snapshot has all that was answered of a player's wallets before."""
        versions = self._versions.get(player_id)
        if versions is None:
            return True
        read = {wallet.currency: wallet.version for wallet in player.wallets}
        return all(read.get(currency, 0) >= version for currency, version in versions.items())


class QuestionDesk:
    """Answers questions; one a process."""

    def __init__(
        self,
        dialects: Mapping[str, Dialect],
        keyring: Keyring,
        players: PlayerSource | None,
        versions: AnsweredVersions,
        stats: GatewayStats,
        find_session: FindSession,
    ) -> None:
        """Take what questions need; without `players` each gets its provider's error."""
        self._dialects = dialects
        self._keyring = keyring
        self._players = players
        self._versions = versions
        self._stats = stats
        self._find_session = find_session
        self._readers: dict[str, QuestionReader] = {}

    async def answer(self, route: Route, received: Received) -> Reply | None:
        """Return the answer to a question; None for a call that moves money."""
        dialect = self._dialects[route.provider]
        record = make_record(route, received)
        try:
            questions = self._reader_of(route.provider)(record, dict(record.headers))
        except Rejected as error:
            is_forged = error.reason in _FORGED
            self._count("not signed by its provider" if is_forged else "cannot be read")
            return dialect.answer(record, [error])
        if not questions:
            return None
        [question] = questions
        session = None if question.token is None else self._find_session(question.token)
        player_id = player_of(route, question, session, received.at_ms)
        if player_id is None:
            self._count("unknown session")
            return dialect.answer_unknown_session(record)
        player = await self._read(player_id)
        if player is None:
            self._count("unavailable")
            return dialect.answer_unavailable(record)
        status = decide_status(route, question, player_id, session, player)
        for wallet in player.wallets:
            self._versions.note(player_id, wallet.currency, wallet.version)
        self._count("answered")
        return dialect.answer_question(record, question, status)

    async def _read(self, player_id: str) -> CurrentPlayer | None:
        """Read a player who is not behind what was answered; None where there is none in time."""
        if self._players is None:
            return None
        deadline = asyncio.get_running_loop().time() + BEHIND_MAX_S
        while True:
            try:
                player = await self._players.read_player(player_id)
            except Unavailable:
                return None
            if self._versions.are_reached(player_id, player):
                return player
            self._count("waited for a copy")
            if asyncio.get_running_loop().time() >= deadline:
                return None
            await asyncio.sleep(BEHIND_STEP_S)

    def _reader_of(self, provider: str) -> QuestionReader:
        if provider not in self._readers:
            entry: Any = self._keyring.get(provider)
            self._readers[provider] = question_reader_of(self._dialects[provider], entry)
        return self._readers[provider]

    def _count(self, ending: str) -> None:
        self._stats.endings[f"question, {ending}"] += 1


def make_record(route: Route, received: Received) -> CallRecord:
    """Return a question as its dialect reads it: a raw record that is never appended.

    It has the path that was called, the time of the receipt and the headers that sign, and nothing
    else of what was sent.
    """
    headers: list[tuple[str, bytes | None]] = [
        ("http-path", route.http_path.encode()),
        ("received-at", b"%d" % received.at_ms),
    ]
    for name in route.face.signature_headers:
        text = received.headers.get(name)
        if text is not None:
            headers.append((name, text.encode("utf-8", "surrogateescape")))
    return CallRecord(route.topic, received.body, headers, received.at_ms)
