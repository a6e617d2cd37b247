"""Six checks over topics and tables that were read again; each names the first violation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ledger_sink.store.database import LedgerDatabase
from replay.audit.evidence import SQL, AnswerRow, TableEvidence, TopicEvidence, read_tables
from replay.audit.quarantines import booked_log
from replay.audit.rerun import replay_ledger
from runtime.postgres.roles import Role
from schemas.errors import Fatal
from schemas.events import Position, WalletBalance, WalletOutcome
from schemas.policies import LedgerPolicy

NAMES = (
    "conserved",
    "balances_match",
    "versions_gapless",
    "offsets_accounted",
    "topic_equals_database",
    "replay_equal",
)


class Check(msgspec.Struct, frozen=True):
    """Result of one check: whether it holds, and if not, the first violation."""

    name: str
    holds: bool
    detail: str


def _check(name: str, wrong: Iterable[str], scope: str) -> Check:
    found = list(wrong)
    if not found:
        return Check(name, holds=True, detail=scope)
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Check(name, holds=False, detail=f"{found[0]}{more}")


async def check_tables(database: LedgerDatabase) -> list[Check]:
    """Run `conserved`, `balances_match` and `versions_gapless` in the database itself."""
    [(transfers, wallets)] = await database.query(SQL["size"])
    size = f"{transfers} transfers, {wallets} wallets"
    unbalanced = [
        f"{currency}: players hold {players}, the house {house}"
        for currency, players, house in await database.query(SQL["conserved"])
    ]
    unbalanced += [
        f"decision {decision} of event {event} says {expected} movements, there are {actual}"
        for event, decision, expected, actual in await database.query(SQL["movements_missing"])
    ]
    unfolded = [
        f"wallet {row[0]}:{row[1]} is not the fold of its transfers: {row[2:]}"
        for row in await database.query(SQL["balances_match"])
    ]
    unfolded += [
        f"transfer {row[0]}:{row[1]} v{row[2]} does not follow from the one before"
        for row in await database.query(SQL["chain_broken"])
    ]
    gaps = [
        f"wallet {row[0]}:{row[1]} has versions {row[2:]}"
        for row in await database.query(SQL["versions_gapless"])
    ]
    return [
        _check("conserved", unbalanced, size),
        _check("balances_match", unfolded, size),
        _check("versions_gapless", gaps, size),
    ]


def check_offsets(topics: TopicEvidence, tables: TableEvidence) -> Check:
    """Check that each source offset has its entry, repeat, parking or dead letter, item by item.

    Nothing that came in has vanished.
    """
    dead = {letter.source for letter in topics.dead_letters}
    normalised = {(attempt.topic, attempt.partition, attempt.offset) for attempt in topics.attempts}
    answered = {(answer.partition, answer.source_offset) for answer in tables.answers}
    wrong = [
        f"{where.topic}-{where.partition}@{where.offset} is neither normalised nor a dead letter"
        for where in _in_log_order(topics.raw - dead - tables.waiting_records)
        if (where.topic, where.partition, where.offset) not in normalised
    ]
    wrong += [
        f"{where.topic}-{where.partition}@{where.offset} has no entry"
        for where in _in_log_order(topics.log_offsets - dead)
        if (where.partition, where.offset) not in answered
    ]
    wrong += [
        f"{where.topic}-{where.partition}@{where.offset} is not parked"
        for where in _in_log_order(topics.unresolved - dead)
        if (where.partition, where.offset) not in tables.parked
    ]
    wrong += _lost_on_the_way(topics, tables)
    wrong += _missing_items(topics)
    size = (
        f"{len(topics.raw)} raw, {len(topics.log_offsets)} booked, "
        f"{len(topics.unresolved)} parked, {len(dead)} dead"
        + (f", {len(tables.waiting_records)} waiting behind them" if tables.waiting_records else "")
    )
    return _check("offsets_accounted", wrong, size)


def _in_log_order(places: Iterable[Any]) -> list[Any]:
    return sorted(places, key=lambda place: (place.topic, place.partition, place.offset))


def _lost_on_the_way(topics: TopicEvidence, tables: TableEvidence) -> list[str]:
    """Return the events that neither wait for a player nor are in the log, with or without one."""
    came = {
        (line.event.event_id, line.event.attempt) for log in topics.log.values() for line in log
    }
    return [
        f"{where.topic}-{where.partition}@{where.offset} no longer waits, but is not in the log"
        for where in _in_log_order(topics.without_player)
        if (where.partition, where.offset) not in tables.unappended
        and topics.without_player[where] not in came
    ]


def _missing_items(topics: TopicEvidence) -> list[str]:
    """Return the raw records with missing items.

    Items of one raw record are numbered from 0, and reading it again gives their number. A dead
    letter of a whole record accounts for those that have nothing of their own: a signature that was
    found wrong, or so many rejected items that one letter reports all. Whether another item of such
    a record was lost cannot be determined: without the keys it is not known here which items were
    rejected.
    """
    seen: dict[Position, set[int]] = {}
    for attempt in topics.attempts:
        source = Position(attempt.topic, attempt.partition, attempt.offset)
        seen.setdefault(source, set()).add(attempt.record_index)
    for letter in topics.dead_letters:
        if letter.record_index is not None:
            seen.setdefault(letter.source, set()).add(letter.record_index)
    whole = {letter.source for letter in topics.dead_letters if letter.record_index is None}
    wrong = []
    for source in _in_log_order(seen.keys() - whole):
        items, known = sorted(seen[source]), topics.item_counts.get(source, 1)
        if len(items) < max(known, items[-1] + 1):
            wrong.append(
                f"{source.topic}-{source.partition}@{source.offset} has items {items}"
                + (f" of {known}" if known > 1 else "")
            )
    return wrong


def check_topics(topics: TopicEvidence, tables: TableEvidence) -> Check:
    """Check that readers of the balance and outcome topics end up with what the database holds."""
    published = {key: _wallet_row(balance) for key, balance in topics.balances.items()}
    wrong = [
        f"wallet {key}: the topic says {published.get(key)}, the database {tables.wallets.get(key)}"
        for key in sorted(published.keys() | tables.wallets.keys())
        if published.get(key) != tables.wallets.get(key)
    ]
    # The topic is compacted: a later reader finds only the last record of each key.
    wrong += [
        f"wallet {key}: the last record says version {versions[-1][0]}, "
        f"an earlier one {max(versions)[0]}"
        for key, versions in sorted(topics.balance_history.items())
        if versions[-1][0] != max(versions)[0]
    ]
    published_answers = {
        key: _answer_row(outcome, outcome.balance_minor) for key, outcome in topics.outcomes.items()
    }
    decided = {
        (answer.event_id, answer.attempt): _answer_row(answer, answer.available_minor)
        for answer in tables.answers
    }
    wrong += [
        f"event {key[0]} of {key[1]}: the topic says {published_answers.get(key)}, "
        f"the database {decided.get(key)}"
        for key in published_answers.keys() | decided.keys()
        if published_answers.get(key) != decided.get(key)
    ]
    wrong += [
        f"event {read.event_id} of {read.attempt}: the topic counts in {read.scale} decimals, "
        f"the wallet in {wallet[0]}"
        for read in topics.outcomes.values()
        if (wallet := tables.wallets.get(f"{read.player_id}:{read.currency}"))
        and read.scale not in (None, wallet[0])
    ]
    wrong += topics.contradictions
    return _check(
        "topic_equals_database",
        wrong,
        f"{len(published)} balances, {len(published_answers)} outcomes",
    )


def _answer_row(answer: WalletOutcome | AnswerRow, available_minor: int | None) -> tuple[Any, ...]:
    return (
        answer.outcome,
        answer.reason,
        answer.currency,
        available_minor,
        answer.version,
        answer.brand,
        answer.provider,
        answer.operation,
        answer.provider_tx_id,
        answer.player_id,
        answer.decided_at,
    )


def _wallet_row(balance: WalletBalance) -> tuple[Any, ...]:
    cash = balance.available_minor - balance.bonus_minor
    return (
        balance.scale,
        cash,
        balance.bonus_minor,
        balance.held_minor,
        balance.version,
        balance.event_id,
        balance.source.partition,
        balance.source.offset,
    )


async def check_replay(
    empty_database_url: str,
    log_topic: str,
    topics: TopicEvidence,
    tables: TableEvidence,
    policies: Mapping[str, LedgerPolicy],
    progress: Callable[[int, int], None],
) -> Check:
    """Check that the log gives the same rows in an empty ledger.

    Compared are balances, movements, outcomes, closings and player states.
    """
    log, wrong = booked_log(log_topic, topics, tables)
    try:
        await replay_ledger(empty_database_url, log_topic, log, tables.batches, policies, progress)
    except Fatal as error:
        return Check("replay_equal", holds=False, detail=f"the log cannot be replayed: {error}")
    database = LedgerDatabase(empty_database_url, "pitboss.replay", role=Role.AUDITOR)
    try:
        again = await read_tables(database)
    finally:
        await database.close()
    wrong += [
        f"wallet {key}: {tables.wallets.get(key)} live, {again.wallets.get(key)} in the replay"
        for key in sorted(tables.wallets.keys() | again.wallets.keys())
        if tables.wallets.get(key) != again.wallets.get(key)
    ]
    live, replayed = _by_place(tables.answers), _by_place(again.answers)
    wrong += [
        f"{log_topic}-{place[0]}@{place[1]}: {live.get(place)} live, "
        f"{replayed.get(place)} in the replay"
        for place in sorted(live.keys() | replayed.keys())
        if live.get(place) != replayed.get(place)
    ]
    wrong += [
        f"{what}: the rows differ"
        for what in sorted(tables.digests.keys() | again.digests.keys())
        if tables.digests.get(what) != again.digests.get(what)
    ]
    return _check("replay_equal", wrong, f"{len(tables.batches)} batches, {len(live)} answers")


def _by_place(answers: Iterable[AnswerRow]) -> dict[tuple[int, int, int], AnswerRow]:
    return {
        (answer.partition, answer.source_offset, answer.attempt.record_index): answer
        for answer in answers
    }
