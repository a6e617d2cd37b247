"""What must hold once everything has settled: against the oracle, within the tables, on the topics,
in a replay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lab.simulator.chains import chains_of, debts_of, gaps_of
from lab.simulator.database import SimulatedDatabase
from lab.simulator.intents import AttemptKey
from lab.simulator.oracle import Oracle
from lab.simulator.process import Process
from lab.simulator.simulation import Simulation
from lab.simulator.tables import Row, Server
from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.groups import CONSUMER, Slice
from ledger_sink.store.ledger import PostgresLedger
from schemas import codec
from schemas.events import FraudAlert, Position, WalletBalance, WalletOutcome, WalletTransaction
from schemas.topics import ALERTS, BALANCES, OUTCOMES, TRANSACTIONS, UNRESOLVED

_ANSWER: Final = ("outcome", "reason", "currency", "available_minor", "version")
_REPLAYED: Final = (
    "entry",
    "repeat",
    "transfer",
    "wallet",
    "closing",
    "player_state",
    "proposal",
    "batch",
)


def _place(event: WalletTransaction) -> AttemptKey:
    attempt = event.attempt
    return (attempt.topic, attempt.partition, attempt.offset, attempt.record_index)


class Evidence:
    """The log as it was booked: every event with its place, in the order of the commits."""

    def __init__(self, world: Simulation) -> None:
        decode = codec.decoder(WalletTransaction)
        self.log: dict[tuple[int, int], LogEvent] = {}
        for part, partition in enumerate(world.broker.topics[TRANSACTIONS]):
            for record in partition.records:
                position = Position(TRANSACTIONS, part, record.offset)
                self.log[part, record.offset] = LogEvent(decode(record.value or b""), position)
        self.unresolved = [
            decode(record.value or b"")
            for partition in world.broker.topics[UNRESOLVED]
            for record in partition.records
        ]
        tables = world.server.tables
        self.batches = sorted(tables["batch"].rows.values(), key=lambda row: row["sequence"])
        self.answers: defaultdict[tuple[int, int], list[Row]] = defaultdict(list)
        for name in ("entry", "repeat"):
            for row in tables[name].rows.values():
                self.answers[row["part"], row["source_offset"]].append(row)

    def slices(self) -> Iterator[Slice]:
        """The batches as they were committed, with their events."""
        for row in self.batches:
            offsets = range(row["from_offset"], row["next_offset"])
            events = [
                self.log[row["part"], offset]
                for offset in offsets
                if (row["part"], offset) in self.log
            ]
            yield Slice(row["part"], row["from_offset"], row["next_offset"], events)


async def find_failures(world: Simulation) -> list[str]:
    """Everything that does not hold, the worst first."""
    evidence = Evidence(world)
    wrong = [*world.server.violations]
    for group in world.groups.values():
        wrong += group.unexpected_exits
    wrong += _positions(world, evidence)
    wrong += _said(world, evidence)
    wrong += _oracle(world, evidence)
    wrong += gaps_of(world.server)
    wrong += _outcomes(world, evidence)
    wrong += _balances(world)
    wrong += _alerts(world)
    wrong += await _replay(world, evidence)
    return wrong


def _positions(world: Simulation, evidence: Evidence) -> Iterator[str]:
    """The batches of a partition follow each other, and each record has one answer."""
    reached: defaultdict[int, int] = defaultdict(int)
    for row in evidence.batches:
        if row["from_offset"] != reached[row["part"]]:
            yield f"batch {row} does not follow {reached[row['part']]}"
        reached[row["part"]] = row["next_offset"]
    for part, partition in enumerate(world.broker.topics[TRANSACTIONS]):
        row = world.server.tables["stream_position"].rows[CONSUMER, TRANSACTIONS, part]
        if not row["next_offset"] == row["published_offset"] == reached[part] == partition.end:
            yield f"partition {part} ends at {partition.end}, the batches at {reached[part]}: {row}"
    for place in sorted(evidence.log.keys() | evidence.answers.keys()):
        count = len(evidence.answers.get(place, ()))
        if count != (place in evidence.log):
            yield f"{TRANSACTIONS}-{place[0]}@{place[1]} has {count} answers"


def _said(world: Simulation, evidence: Evidence) -> Iterator[str]:
    """All that was said is in the log, as it was said, and nothing else."""
    seen: set[AttemptKey] = set()
    for sourced in evidence.log.values():
        event, place = sourced.event, _place(sourced.event)
        seen.add(place)
        said = world.intents.get(place)
        if (
            said is None
            or (event.brand, event.provider, event.operation, event.provider_tx_id) != said.identity
        ):
            yield f"{sourced}: {event.operation} {event.provider_tx_id} was never said"
    for place, said in world.intents.items():
        if place not in seen:
            yield f"{said.identity} of {place} never came into the log"
    for event in evidence.unresolved:
        if _place(event) not in seen:
            yield f"{event.provider_tx_id} waits no more and never came into the log"


def _oracle(world: Simulation, evidence: Evidence) -> Iterator[str]:
    oracle = Oracle(world.policies)
    for slice_ in evidence.slices():
        for sourced in slice_.events:
            event, place = sourced.event, _place(sourced.event)
            said = world.intents.get(place)
            if said is None:
                continue
            if said.player is not None and event.player_id != said.player:
                yield f"{sourced} is booked for {event.player_id}, it was said of {said.player}"
            # Whose clock runs ahead is cut to the broker's.
            said_at_ms = min(world.intent_times_ms.get(place, event.appended_at), event.appended_at)
            told = oracle.answer(said, place, event.player_id, said_at_ms)
            for row in evidence.answers[sourced.source.partition, sourced.source.offset]:
                is_told = (row["outcome"], row["reason"]) == (told.outcome, told.reason)
                shown = row["currency"] is None or row["available_minor"] == told.available.get(
                    row["currency"], 0
                )
                if not (is_told and shown):
                    answer = tuple(row[column] for column in _ANSWER)
                    yield f"{sourced} {said}: the ledger says {answer}, the oracle {told}"
    yield from _same_money(world, oracle)
    yield from _found(world, evidence, oracle)


def _same_money(world: Simulation, oracle: Oracle) -> Iterator[str]:
    wallets = {
        key: (row["cash_minor"], row["bonus_minor"], row["held_minor"])
        for key, row in world.server.tables["wallet"].rows.items()
    }
    money = {key: tuple(wallet.values()) for key, wallet in oracle.money.items()}
    nothing = (0, 0, 0)
    yield from _differ("wallet", wallets, money, nothing)
    house: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in world.server.tables["transfer"].rows.values():
        for account, sign in ((row["debit"], -1), (row["credit"], 1)):
            if not account.startswith("player:"):
                house[account, row["currency"]] += sign * row["amount_minor"]
    yield from _differ("account", house, oracle.house, 0)
    total: defaultdict[str, int] = defaultdict(int)
    for (_, currency), purses in wallets.items():
        total[currency] += sum(purses)
    for (_, currency), minor in house.items():
        total[currency] += minor
    for currency, rest in total.items():
        if rest:
            yield f"{currency}: players and house together hold {rest}, which came from nowhere"


def _differ(
    what: str, ledger: Mapping[Any, Any], oracle: Mapping[Any, Any], nothing: Any
) -> Iterator[str]:
    for key in sorted(ledger.keys() | oracle.keys(), key=str):
        if ledger.get(key, nothing) != oracle.get(key, nothing):
            yield f"{what} {key}: the ledger has {ledger.get(key)}, the oracle {oracle.get(key)}"


def _found(world: Simulation, evidence: Evidence, oracle: Oracle) -> Iterator[str]:
    """Whoever was found is whom the reference means; whoever was not found could not have been."""
    first_said: dict[Any, int] = {}
    first_asked: dict[Any, int] = {}
    for number, said in enumerate(world.intents.values()):
        first_said.setdefault(said.identity, number)
        first_asked.setdefault((said.identity, said.reference), number)
    for sourced in evidence.log.values():
        event, asked = sourced.event, world.intents.get(_place(sourced.event))
        if asked is None or asked.player or asked.reference is None or asked.cancels:
            continue
        owners = {decision.player for decision in oracle.decisions.get(asked.reference, ())}
        if event.player_id is not None and event.player_id not in owners:
            yield f"{sourced} was given to {event.player_id}, its reference belongs to {owners}"
        was_there = (
            first_said.get(asked.reference, len(world.intents))
            < first_asked[asked.identity, asked.reference]
        )
        is_given_up = event.player_id is None and asked.legs[0].kind != "INFORMATIONAL"
        if is_given_up and was_there and any(owners):
            yield f"{sourced}: its reference {asked.reference} was said before it, and yet it was given up"


def _outcomes(world: Simulation, evidence: Evidence) -> Iterator[str]:
    """Every attempt has an answer on the topic, and always the same."""
    decode = codec.decoder(WalletOutcome)
    told: dict[tuple[str, Any], WalletOutcome] = {}
    for partition in world.broker.topics[OUTCOMES]:
        for record in partition.records:
            outcome = decode(record.value or b"")
            known = told.setdefault((outcome.event_id, outcome.attempt), outcome)
            if known != outcome:
                yield f"{outcome.attempt}: told {known.outcome} {known.version} and {outcome.outcome} {outcome.version}"
    asked = set()
    for place, sourced in evidence.log.items():
        key = (sourced.event.event_id, sourced.event.attempt)
        asked.add(key)
        answer = told.get(key)
        for row in evidence.answers[place]:
            said = answer and (
                answer.outcome,
                answer.reason,
                answer.currency,
                answer.balance_minor,
                answer.version,
            )
            if said != tuple(row[column] for column in _ANSWER):
                yield f"{sourced}: the topic says {said}, the row {[row[column] for column in _ANSWER]}"
    for key in told.keys() - asked:
        yield f"an outcome for {key}, which is not in the log"


def _balances(world: Simulation) -> Iterator[str]:
    """What readers of the balance topic end up with is the ledger's."""
    decode = codec.decoder(WalletBalance)
    seen: dict[tuple[str, str], WalletBalance] = {}
    last: dict[tuple[str, str], WalletBalance] = {}
    for partition in world.broker.topics[BALANCES]:
        for record in partition.records:
            balance = decode(record.value or b"")
            key = (balance.player_id, balance.currency)
            last[key] = balance
            if key not in seen or seen[key].version < balance.version:
                seen[key] = balance
    wallets = world.server.tables["wallet"].rows
    for key in sorted(seen.keys() ^ wallets.keys()):
        yield f"wallet {key}: on the topic {seen.get(key)}, in the ledger {wallets.get(key)}"
    for key in sorted(seen.keys() & wallets.keys()):
        balance, row = seen[key], wallets[key]
        cash = balance.available_minor - balance.bonus_minor
        on_topic = (
            cash,
            balance.bonus_minor,
            balance.held_minor,
            balance.version,
            balance.event_id,
        )
        if on_topic != tuple(
            row[c] for c in ("cash_minor", "bonus_minor", "held_minor", "version", "event_id")
        ):
            yield f"wallet {key}: on the topic {on_topic}, in the ledger {row}"
        # docs/guarantees.md: only what a frozen process sends when it wakes may leave an older
        # balance last.
        if last[key].version != balance.version and not world.had_freeze:
            yield f"wallet {key}: the last record says v{last[key].version}, an earlier one v{balance.version}"


def _alerts(world: Simulation) -> Iterator[str]:
    """Somebody is told of each event that took an account below zero, or further below, and of
    nothing else.
    """
    decode = codec.decoder(FraudAlert)
    told = {
        event_id
        for partition in world.broker.topics[ALERTS]
        for record in partition.records
        for event_id in decode(record.value or b"").sample_event_ids
    }
    debts = {event_id for chain in chains_of(world.server).values() for event_id in debts_of(chain)}
    for event_id in sorted(told ^ debts):
        yield f"{event_id}: {'an alert without a debt' if event_id in told else 'nobody was told of this debt'}"


async def _replay(world: Simulation, evidence: Evidence) -> list[str]:
    """The log into an empty ledger, in the order of the commits, gives the same rows."""
    server = Server()
    process = Process("replay", world.rng, lambda _: None)
    ledger = PostgresLedger(
        SimulatedDatabase(server, process, "replay"), world.policies, topic=TRANSACTIONS
    )
    parts = sorted({row["part"] for row in evidence.batches})
    claims = await claim_positions(
        SimulatedDatabase(server, process, "replay"), parts, topic=TRANSACTIONS
    )
    ledger.epochs.update({part: claim.epoch for part, claim in claims.items()})
    for slice_ in evidence.slices():
        await ledger.commit_group([slice_])
    wrong = []
    for name in _REPLAYED:
        live, again = world.server.tables[name].rows, server.tables[name].rows
        keys = sorted(
            (key for key in live.keys() | again.keys() if live.get(key) != again.get(key)), key=str
        )
        if keys and name != "transfer":
            wrong.append(
                f"replay: {name} {keys[0]} is {live.get(keys[0])} live, {again.get(keys[0])} again"
            )
        elif keys and sorted(map(str, live.values())) != sorted(map(str, again.values())):
            wrong.append(f"replay: {len(live)} transfers live, {len(again)} again, or not the same")
    return wrong
