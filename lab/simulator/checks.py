"""The checks of a settled simulation: against the oracle, the tables, the topics and a replay.

Each check yields one line for every rule that does not hold; no line means success.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Final

from lab.conformance.intents import Identity
from lab.simulator.database import SimulatedDatabase
from lab.simulator.intents import AttemptKey, SimulatedIntent
from lab.simulator.oracle import Oracle
from lab.simulator.oracle_operators import OPERATOR_KINDS
from lab.simulator.oracle_rules import OTHER_BRAND, OTHER_OPERATION
from lab.simulator.oracle_state import OracleAnswer
from lab.simulator.process import Process
from lab.simulator.simulation import Simulation
from lab.simulator.tables import Row, Server
from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules.book import LogEvent
from ledger_sink.rules.journal import QUARANTINED
from ledger_sink.rules.quarantine import replace_quarantined
from ledger_sink.store.groups import CONSUMER, Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.log_check import checksum
from schemas import codec
from schemas.errors import Rejected
from schemas.events import (
    FraudAlert,
    Position,
    RiskSignal,
    SignalKind,
    WalletBalance,
    WalletOutcome,
    WalletTransaction,
)
from schemas.topics import ALERTS, BALANCES, OUTCOMES, SIGNALS, TRANSACTIONS, UNRESOLVED

_ANSWER: Final = ("outcome", "reason", "currency", "available_minor", "version")
_MISFITS: Final = frozenset(
    {
        *("ABOVE_PAYMENT", "PAYMENT_CURRENCY_DIFFERS"),
        *("OPENED_AMOUNT_DIFFERS", "OPENED_CURRENCY_DIFFERS"),
    }
)
_BALANCE: Final = ("cash_minor", "bonus_minor", "held_minor", "version", "event_id")
_WITHOUT_PLAYER: Final = frozenset({"INFORMATIONAL", *OPERATOR_KINDS})
_REPLAYED: Final = (
    *("entry", "repeat", "transfer", "wallet", "closing", "player_state", "proposal", "batch"),
    *("opened_deposit", "open_item", "operator_limit"),
)


def _attempt_key(event: WalletTransaction) -> AttemptKey:
    attempt = event.attempt
    return (attempt.topic, attempt.partition, attempt.offset, attempt.record_index)


class Evidence:
    """The log as it was booked: every event with its position, in the order of the commits."""

    def __init__(self, simulation: Simulation) -> None:
        decode = codec.decoder(WalletTransaction)
        booked = _read_log(simulation)
        self.unapproved: list[str] = []
        for row in simulation.server.tables["closing"].rows.values():
            if row["action"] == QUARANTINED:
                self._replace(simulation, booked, row["part"], row["source_offset"])
        self.log = {
            (partition, log_event.source.offset): log_event
            for partition, events in booked.items()
            for log_event in events
        }
        self.unresolved = [
            decode(record.value or b"")
            for log in simulation.broker.topics[UNRESOLVED]
            for record in log.records
        ]
        tables = simulation.server.tables
        self.batches = sorted(tables["batch"].rows.values(), key=lambda row: row["sequence"])
        self.answers: defaultdict[tuple[int, int], list[Row]] = defaultdict(list)
        for name in ("entry", "repeat"):
            for row in tables[name].rows.values():
                self.answers[row["part"], row["source_offset"]].append(row)

    def _replace(
        self, simulation: Simulation, booked: dict[int, list[LogEvent]], partition: int, offset: int
    ) -> None:
        """Put what is booked in the place of a record that is quarantined."""
        [record], _ = simulation.broker.topics[TRANSACTIONS][partition].between(offset, 1)
        place = Position(TRANSACTIONS, partition, offset)
        replaced = replace_quarantined(
            booked[partition], place, checksum(record.key, record.value), record.timestamp
        )
        if replaced is None:
            self.unapproved.append(f"{place} is quarantined without an approval in the log")
        else:
            booked[partition] = replaced

    def slices(self) -> Iterator[Slice]:
        """Yield the batches with their events, in the order of the commits."""
        for row in self.batches:
            offsets = range(row["from_offset"], row["next_offset"])
            events = [
                self.log[row["part"], offset]
                for offset in offsets
                if (row["part"], offset) in self.log
            ]
            yield Slice(row["part"], row["from_offset"], row["next_offset"], events)


def _read_log(simulation: Simulation) -> dict[int, list[LogEvent]]:
    decode, events = codec.decoder(WalletTransaction), defaultdict[int, list[LogEvent]](list)
    for partition, log in enumerate(simulation.broker.topics[TRANSACTIONS]):
        for record in log.records:
            place = Position(TRANSACTIONS, partition, record.offset)
            with suppress(Rejected):  # of a newer release
                event = decode(record.value or b"")
                events[partition].append(LogEvent(event, place, record.timestamp))
    return events


async def find_failures(simulation: Simulation) -> list[str]:
    """Return every rule that does not hold, the most serious first."""
    evidence = Evidence(simulation)
    failures = [*simulation.server.violations]
    for group in simulation.groups.values():
        failures += group.unexpected_exits
    failures += evidence.unapproved
    failures += _check_positions(simulation, evidence)
    failures += _check_unbookable(simulation, evidence)
    failures += _check_intents(simulation, evidence)
    failures += _check_oracle(simulation, evidence)
    failures += gaps_of(simulation.server)
    failures += _check_outcomes(simulation, evidence)
    failures += _check_balances(simulation)
    failures += _check_alerts(simulation)
    failures += _check_signals(simulation)
    failures += await _check_replay(simulation, evidence)
    return failures


def _check_positions(simulation: Simulation, evidence: Evidence) -> Iterator[str]:
    """Check that the batches of a partition follow each other and each record has one answer."""
    reached: defaultdict[int, int] = defaultdict(int)
    for row in evidence.batches:
        if row["from_offset"] != reached[row["part"]]:
            yield f"batch {row} does not follow {reached[row['part']]}"
        reached[row["part"]] = row["next_offset"]
    for partition, log in enumerate(simulation.broker.topics[TRANSACTIONS]):
        row = simulation.server.tables["stream_position"].rows[CONSUMER, TRANSACTIONS, partition]
        if not row["next_offset"] == row["published_offset"] == reached[partition] == log.end:
            yield (
                f"partition {partition} ends at {log.end}, its batches at {reached[partition]}, "
                f"its position is {row}"
            )
    for partition, offset in sorted(evidence.log.keys() | evidence.answers.keys()):
        rows = evidence.answers.get((partition, offset), [])
        log_event = evidence.log.get((partition, offset))
        expected = [] if log_event is None else [log_event.event.attempt.record_index]
        if log_event is not None and len(rows) > 1:  # the group that is decided here
            expected = [one.event.attempt.record_index for one in log_event.members]
        if sorted(row["attempt_index"] for row in rows) != sorted(expected):
            yield f"{TRANSACTIONS}-{partition}@{offset} has {len(rows)} answers"


def _check_intents(simulation: Simulation, evidence: Evidence) -> Iterator[str]:
    """Check that the log contains every intent unchanged, and nothing else."""
    seen: set[AttemptKey] = set()
    for place, log_event in evidence.log.items():
        if place in simulation.unbookable:
            continue
        event, key = log_event.event, _attempt_key(log_event.event)
        seen.add(key)
        intent = simulation.intents.get(key)
        identity = (event.brand, event.provider, event.operation, event.provider_tx_id)
        if intent is None or identity != intent.identity:
            yield f"{log_event}: {event.operation} {event.provider_tx_id} has no intent"
    for key, intent in simulation.intents.items():
        if key not in seen:
            yield f"{intent.identity} of {key} is not in the log"
    for event in evidence.unresolved:
        if _attempt_key(event) not in seen:
            yield f"{event.provider_tx_id} is no longer parked and not in the log"


def _check_unbookable(simulation: Simulation, evidence: Evidence) -> Iterator[str]:
    """Check what became of unbookable events, and of the steps to quarantine them."""
    for place, expected in simulation.unbookable.expected_answers():
        found = [(row["outcome"], row["reason"]) for row in evidence.answers[place]]
        if found != [expected]:
            yield f"{TRANSACTIONS}-{place[0]}@{place[1]}: answered {found}, expected {expected}"
    transfers = simulation.server.tables["transfer"].rows.values()
    for place in {(row["part"], row["source_offset"]) for row in transfers}:
        if place in simulation.unbookable:
            yield f"{TRANSACTIONS}-{place[0]}@{place[1]} has moved money"


def _check_oracle(simulation: Simulation, evidence: Evidence) -> Iterator[str]:
    """Compare each answer, and the money at the end, with the oracle's."""
    oracle = Oracle(simulation.policies)
    for slice_ in evidence.slices():
        for log_event in slice_.events:
            event, key = log_event.event, _attempt_key(log_event.event)
            intent = simulation.intents.get(key)
            if intent is None:
                continue
            if intent.player is not None and event.player_id != intent.player:
                yield f"{log_event} is booked for {event.player_id}, but is of {intent.player}"
            # A provider's time in the future is cut to the broker's time of the append.
            provider_ms = simulation.intent_times_ms.get(key, event.appended_at)
            at_ms = min(provider_ms, event.appended_at)
            call = simulation.call_of(key)
            oracle.answer(intent, key, event.player_id, at_ms, call)
            for row in evidence.answers[log_event.source.partition, log_event.source.offset]:
                attempted = next(
                    (one for one in call if one[1][3] == row["attempt_index"]), (intent, key)
                )
                expected = oracle.answers[attempted[0].identity, attempted[1]]
                is_same = (row["outcome"], row["reason"]) == (expected.outcome, expected.reason)
                available = expected.available.get(row["currency"], 0)
                is_same &= (
                    row["available_minor"] == available
                    if row["currency"] is not None
                    else not _is_wallet_known(attempted[0], expected)
                )
                if not is_same:
                    answer = tuple(row[column] for column in _ANSWER)
                    yield f"{log_event} {attempted[0]}: ledger {answer}, oracle {expected}"
    yield from _check_money(simulation, oracle)
    yield from _check_found_players(simulation, evidence, oracle)


def _is_wallet_known(intent: SimulatedIntent, answer: OracleAnswer) -> bool:
    """Return whether an answer must state a balance: of the named wallet, else of the only one."""
    named = next((leg.currency for leg in intent.legs if leg.currency is not None), None)
    return named in answer.available if named is not None else len(answer.available) == 1


def _check_money(simulation: Simulation, oracle: Oracle) -> Iterator[str]:
    """Compare wallets and house accounts with the oracle's; check that money is conserved."""
    wallets = {
        key: (row["cash_minor"], row["bonus_minor"], row["held_minor"])
        for key, row in simulation.server.tables["wallet"].rows.items()
    }
    money = {key: tuple(wallet.values()) for key, wallet in oracle.money.items()}
    yield from _differences("wallet", wallets, money, (0, 0, 0))
    house: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in simulation.server.tables["transfer"].rows.values():
        for account, sign in ((row["debit"], -1), (row["credit"], 1)):
            if not account.startswith("player:"):
                house[account, row["currency"]] += sign * row["amount_minor"]
    yield from _differences("account", house, oracle.house, 0)
    yield from _check_suspense(simulation, house)
    total: defaultdict[str, int] = defaultdict(int)
    for (_, currency), balances in wallets.items():
        total[currency] += sum(balances)
    for (_, currency), minor in house.items():
        total[currency] += minor
    for currency, rest in total.items():
        if rest:
            yield f"{currency}: players and house together hold {rest}, expected 0"


def _check_suspense(simulation: Simulation, house: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """Check that suspense holds what its open items state, and nothing else."""
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    for row in simulation.server.tables["open_item"].rows.values():
        if row["in_suspense"]:
            held[f"suspense:{row['provider']}", row["currency"]] += row["amount_minor"]
    accounts = {key: minor for key, minor in house.items() if key[0].startswith("suspense:")}
    yield from _differences("open items of", held, accounts, 0)


def _differences(
    what: str, ledger: Mapping[Any, Any], oracle: Mapping[Any, Any], default: Any
) -> Iterator[str]:
    for key in sorted(ledger.keys() | oracle.keys(), key=str):
        if ledger.get(key, default) != oracle.get(key, default):
            yield f"{what} {key}: ledger {ledger.get(key)}, oracle {oracle.get(key)}"


def _check_found_players(
    simulation: Simulation, evidence: Evidence, oracle: Oracle
) -> Iterator[str]:
    """Check the players that the resolver found, and that the others could not be found."""
    first_identity: dict[Identity, int] = {}
    first_use: dict[tuple[Identity, Identity | None], int] = {}
    for number, intent in enumerate(simulation.intents.values()):
        first_identity.setdefault(intent.identity, number)
        first_use.setdefault((intent.identity, intent.reference), number)
    for log_event in evidence.log.values():
        event = log_event.event
        candidate: SimulatedIntent | None = simulation.intents.get(_attempt_key(event))
        if candidate is None or candidate.player or candidate.cancels:
            continue
        reference = candidate.reference
        if reference is None:
            continue
        owners = {decision.player for decision in oracle.decisions.get(reference, ())}
        if event.player_id is not None and event.player_id not in owners:
            yield f"{log_event}: booked for {event.player_id}, its reference belongs to {owners}"
        was_there = (
            first_identity.get(reference, len(simulation.intents))
            < first_use[candidate.identity, reference]
        )
        is_given_up = event.player_id is None and candidate.legs[0].kind not in _WITHOUT_PLAYER
        if is_given_up and was_there and any(owners):
            yield f"{log_event}: no player found, although its reference {reference} came before it"


def _check_outcomes(simulation: Simulation, evidence: Evidence) -> Iterator[str]:
    """Check that every attempt has an outcome on the topic, and all its copies are equal."""
    decode = codec.decoder(WalletOutcome)
    outcomes: dict[tuple[str, Any], WalletOutcome] = {}
    for log in simulation.broker.topics[OUTCOMES]:
        for record in log.records:
            outcome = decode(record.value or b"")
            first = outcomes.setdefault((outcome.event_id, outcome.attempt), outcome)
            if first != outcome:
                yield (
                    f"{outcome.attempt}: published as {first.outcome} {first.version} and as "
                    f"{outcome.outcome} {outcome.version}"
                )
    expected = set()
    for position, log_event in evidence.log.items():
        key = (log_event.event.event_id, log_event.event.attempt)
        expected.add(key)
        published = outcomes.get(key)
        own = log_event.event.attempt.record_index
        for row in evidence.answers[position]:
            if row["attempt_index"] != own:
                continue
            on_topic = published and (
                *(published.outcome, published.reason, published.currency),
                *(published.balance_minor, published.version, published.decided_at),
            )
            in_table = tuple(row[column] for column in (*_ANSWER, "decided_at_ms"))
            if on_topic != in_table:
                yield f"{log_event}: on the topic {on_topic}, in the table {in_table}"
    for key in outcomes.keys() - expected:
        yield f"an outcome for {key}, which is not in the log"


def _check_balances(simulation: Simulation) -> Iterator[str]:
    """Check that readers of the balance topic end up with the ledger's balances."""
    decode = codec.decoder(WalletBalance)
    newest: dict[tuple[str, str], WalletBalance] = {}
    last: dict[tuple[str, str], WalletBalance] = {}
    for log in simulation.broker.topics[BALANCES]:
        for record in log.records:
            balance = decode(record.value or b"")
            key = (balance.player_id, balance.currency)
            last[key] = balance
            if key not in newest or newest[key].version < balance.version:
                newest[key] = balance
    wallets = simulation.server.tables["wallet"].rows
    for key in sorted(newest.keys() ^ wallets.keys()):
        yield f"wallet {key}: on the topic {newest.get(key)}, in the ledger {wallets.get(key)}"
    for key in sorted(newest.keys() & wallets.keys()):
        balance, row = newest[key], wallets[key]
        on_topic = (
            *(balance.available_minor - balance.bonus_minor, balance.bonus_minor),
            *(balance.held_minor, balance.version, balance.event_id),
        )
        if on_topic != tuple(row[column] for column in _BALANCE):
            yield f"wallet {key}: on the topic {on_topic}, in the ledger {row}"
        # docs/explanation/guarantees.md: an older balance may be last only after the late send of
        # a frozen process.
        if last[key].version != balance.version and not simulation.had_freeze:
            yield (
                f"wallet {key}: its last record has version {last[key].version}, an earlier one "
                f"{balance.version}"
            )


def _check_alerts(simulation: Simulation) -> Iterator[str]:
    """Check that exactly debts made or deepened, and money that does not fit, have alerts."""
    decode = codec.decoder(FraudAlert)
    alerted = {
        event_id
        for log in simulation.broker.topics[ALERTS]
        for record in log.records
        for event_id in decode(record.value or b"").sample_event_ids
    }
    debts = {
        event_id for chain in chains_of(simulation.server).values() for event_id in debts_of(chain)
    }
    entries = simulation.server.tables["entry"].rows.values()
    misfits = {row["event_id"] for row in entries if row["reason"] in _MISFITS}
    for event_id in sorted(alerted ^ (debts | misfits)):
        what = "an alert without a cause" if event_id in alerted else "a cause without an alert"
        yield f"{event_id}: {what}"


def _check_signals(simulation: Simulation) -> Iterator[str]:
    """Check that exactly the decisions about events of another brand or operation have a signal."""
    decode = codec.decoder(RiskSignal)
    signalled = {
        signal.attributes["event_id"]
        for log in simulation.broker.topics[SIGNALS]
        for record in log.records
        if (signal := decode(record.value or b"")).kind in _LEDGER_SIGNALS
    }
    entries = simulation.server.tables["entry"].rows.values()
    causes = {row["event_id"] for row in entries if row["reason"] in (OTHER_BRAND, OTHER_OPERATION)}
    for event_id in sorted(signalled ^ causes):
        what = "a signal without a cause" if event_id in signalled else "a cause without a signal"
        yield f"{event_id}: {what}"


_LEDGER_SIGNALS = frozenset({SignalKind.OTHER_BRAND, SignalKind.OTHER_OPERATION})


async def _check_replay(simulation: Simulation, evidence: Evidence) -> list[str]:
    """Book the log into an empty ledger, in the order of the commits, and compare the rows."""
    server = Server()
    process = Process("replay", simulation.rng, lambda _: None)
    ledger = PostgresLedger(
        SimulatedDatabase(server, process, "replay"), simulation.policies, topic=TRANSACTIONS
    )
    partitions = sorted({row["part"] for row in evidence.batches})
    claims = await claim_positions(
        SimulatedDatabase(server, process, "replay"), partitions, topic=TRANSACTIONS
    )
    ledger.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
    for slice_ in evidence.slices():
        await ledger.commit_group([slice_])
    failures = []
    for name in _REPLAYED:
        live, again = simulation.server.tables[name].rows, server.tables[name].rows
        different = (key for key in live.keys() | again.keys() if live.get(key) != again.get(key))
        keys = sorted(different, key=str)
        if keys and name != "transfer":
            first = keys[0]
            failures.append(
                f"replay: {name} {first} is {live.get(first)} live, {again.get(first)} replayed"
            )
        elif keys and sorted(map(str, live.values())) != sorted(map(str, again.values())):
            failures.append(
                f"replay: {len(live)} transfers live, {len(again)} replayed, or not the same"
            )
    return failures


def chains_of(server: Server) -> dict[tuple[str, str], list[Row]]:
    """Return the transfers of each wallet by player and currency, in the order of versions."""
    chains: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in server.tables["transfer"].rows.values():
        if row["player_id"] is not None:
            chains[row["player_id"], row["currency"]].append(row)
    return {key: sorted(rows, key=lambda row: row["version"]) for key, rows in chains.items()}


def gaps_of(server: Server) -> Iterator[str]:
    """Yield gaps in versions, and transfers whose balances do not follow from the one before."""
    for key, rows in chains_of(server).items():
        balances = {"cash": 0, "bonus": 0, "held": 0}
        for number, row in enumerate(rows, 1):
            for account, sign in ((row["debit"], -1), (row["credit"], 1)):
                if account.startswith("player:"):
                    balances[account.rsplit(":", 1)[1]] += sign * row["amount_minor"]
            after = {name: row[f"{name}_minor"] for name in balances}
            if row["version"] != number or after != balances:
                yield (
                    f"wallet {key}: expected version {number} with {balances}, "
                    f"the row has version {row['version']} with {after}"
                )
        wallet = server.tables["wallet"].rows.get(key)
        if wallet is None or wallet["version"] != len(rows):
            yield f"wallet {key} has {len(rows)} transfers: {wallet}"


def debts_of(chain: Sequence[Row]) -> Iterator[str]:
    """Yield the events that left a wallet's cash or bonus below zero, and lower than before."""
    before = {"cash_minor": 0, "bonus_minor": 0}
    for (event_id, _), rows in groupby(chain, key=lambda row: (row["event_id"], row["decision"])):
        *_, after = rows
        if any(after[name] < min(minor, 0) for name, minor in before.items()):
            yield event_id
        before = {name: after[name] for name in before}
