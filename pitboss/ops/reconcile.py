"""Reconciliation with the topics and with providers' statements.

Reads the topic of balances whole, publishes wrong balances again, and parses statement files. The
comparisons themselves are in `ledger_sink.proof.reconcile`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from ledger_sink.booking.messages import MessageEncoder
from ledger_sink.proof.reconcile import (
    BalanceReport,
    StatementLine,
    compare_balances,
    read_published,
    read_wallets,
)
from ledger_sink.rules.journal import Wallet
from ledger_sink.store.database import LedgerDatabase
from pitboss.ops.topic_admin import admin_client
from pitboss.settings import Runtime
from replay.audit.checks import Check, check_offsets
from replay.audit.evidence import read_all_topics, read_tables
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.causes import DIVIDED
from schemas.errors import Rejected, UsageError
from schemas.events import Kind, WalletBalance, WalletTransaction
from schemas.identity import event_id
from schemas.money import exponent_of, minor_units
from schemas.topics import BALANCES, TRANSACTIONS, dead_letter_topic, raw_topic
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.providers.dialect import Dialect
from streams.providers.registry import DIALECTS

ATTEMPTS_MAX: Final = 3
"""Comparisons at most: a wallet may move between the comparison and its new record."""

_REPUBLISHED_FAULTS: Final = frozenset({"MISSING", "OLDER", "DIFFERENT"})
_WITHOUT_MONEY: Final = frozenset(
    {Kind.INFORMATIONAL, Kind.HEARTBEAT, Kind.ROUND_CLOSE, Kind.PLAYER_STATE}
)
_COLUMNS: Final = ("operation", "transaction_id", "amount", "currency")


class RawFile(NamedTuple):
    """A statement file in the shape of a raw record that a connector appended."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


async def reconcile_balances(runtime: Runtime, database: LedgerDatabase) -> BalanceReport:
    """Compare every wallet with the last record of its key on the topic. Raises Unavailable."""
    report, _ = await _compare(runtime, database)
    return report


async def republish_balances(
    runtime: Runtime, database: LedgerDatabase
) -> tuple[BalanceReport, int]:
    """Publish missing, older and different balances again; return the last report and the count.

    A running ledger may publish a wallet's next version at the same moment, so that ours comes
    last: the next comparison finds that. Raises Unavailable, SendFailed.
    """
    records = MessageEncoder(runtime.topic(TRANSACTIONS))
    sent = 0
    producer = BatchProducer(ProducerSettings(runtime.broker, "pitboss.reconcile"))
    async with producer:
        for _ in range(ATTEMPTS_MAX):
            report, wallets = await _compare(runtime, database)
            wrong = [
                wallets[fault.key] for fault in report.faults if fault.what in _REPUBLISHED_FAULTS
            ]
            if not wrong:
                break
            messages = [records.encode_balance(wallet) for wallet in wrong]
            await producer.send_keyed(
                runtime.topic(BALANCES), [(key, value, (), None) for key, value in messages]
            )
            sent += len(messages)
    report, _ = await _compare(runtime, database)
    return report, sent


async def reconcile_offsets(runtime: Runtime, database: LedgerDatabase) -> Check:
    """Check that every source record has its entry, repeat, parking or dead letter.

    The tables are read last: a record that came meanwhile may be booked and not yet seen, never the
    reverse. Raises Unavailable.
    """
    async with admin_client(runtime.broker) as admin:
        there = set(await admin.list_topics())
    raw = {name: runtime.topic(raw_topic(name)) for name in DIALECTS}
    providers = [name for name, topic in raw.items() if {topic, dead_letter_topic(topic)} <= there]
    topics = await read_all_topics(runtime.broker, runtime.namespace, providers)
    return check_offsets(topics, await read_tables(database))


async def _compare(
    runtime: Runtime, database: LedgerDatabase
) -> tuple[BalanceReport, Mapping[str, Wallet]]:
    published = await read_published(database, runtime.topic(TRANSACTIONS))
    decode = codec.decoder(WalletBalance)
    latest: dict[str, WalletBalance] = {}
    async for record in read_topics(runtime.broker, [runtime.topic(BALANCES)]):
        key = (record.key or b"").decode()
        if record.value is None:
            latest.pop(key, None)
        else:
            latest[key] = decode(record.value)
    wallets = await read_wallets(database)
    return compare_balances(wallets, latest, published), {
        f"{one.player_id}:{one.currency}": one for one in wallets
    }


def parse_csv_statement(text: str, *, provider: str, brand: str) -> Iterator[StatementLine]:
    """Parse a CSV statement: columns operation, transaction_id, amount (major units) and currency.

    Raises UsageError, naming the line, for a file that is not such a CSV.
    """
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(
            text[:4096], delimiters=",;\t"
        )
    except csv.Error:
        dialect = csv.excel
    reader = csv.DictReader(io.StringIO(text, newline=""), dialect=dialect, strict=True)
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(
            f"the statement has no column {missing[0]!r}: it needs {', '.join(_COLUMNS)}"
        )
    try:
        for row in reader:
            yield _line(row, reader.line_num, provider, brand)
    except csv.Error as error:
        raise UsageError(
            f"line {reader.line_num} of the statement is not valid CSV: {error}"
        ) from error


def _line(row: Mapping[str, Any], number: int, provider: str, brand: str) -> StatementLine:
    operation, tx_id, amount, currency = ((row[name] or "").strip() for name in _COLUMNS)
    if not operation or not tx_id:
        raise UsageError(f"line {number} of the statement lacks its operation or transaction_id")
    try:
        code = currency.upper()
        minor = None if not amount else _minor(Decimal(amount), code)
    except (InvalidOperation, Rejected, ValueError) as error:
        raise UsageError(
            f"line {number} of the statement: {amount!r} {currency!r} is not an amount: {error}"
        ) from error
    return StatementLine(
        event_id(brand, provider, operation, tx_id), operation, tx_id, code or None, minor
    )


def _minor(amount: Decimal, currency: str) -> int:
    scaled = abs(amount).scaleb(exponent_of(currency))
    if not scaled.is_finite() or scaled != int(scaled):
        raise ValueError("not a whole number of minor units")
    return int(scaled)


def parse_native_statement(
    value: bytes, dialect: Dialect, *, provider: str, brand: str, at_ms: int
) -> tuple[list[StatementLine], list[RejectedItem]]:
    """Parse a file with the provider's own dialect; return its lines and the items it rejects."""
    headers = [("brand", brand.encode()), ("received-at", b"%d" % at_ms)]
    record = RawFile(raw_topic(provider), 0, 0, at_ms, None, value, headers)
    lines: list[StatementLine] = []
    unread: list[RejectedItem] = []
    for item in Normaliser({provider: dialect}, {}).normalise(record):
        if isinstance(item, RejectedItem):
            unread.append(item)
            continue
        if isinstance(item, AcceptedTransaction):
            line = _line_of(item.transaction)
            if line is not None:
                lines.append(line)
    return lines, unread


def _line_of(event: WalletTransaction) -> StatementLine | None:
    legs = [leg for leg in event.legs if leg.kind not in _WITHOUT_MONEY]
    is_division = event.cause is not None and event.cause.type == DIVIDED
    if not legs or is_division:  # the payments of a divided entry have lines of their own
        return None
    amounts = [
        (abs(minor_units(leg.amount, leg.currency)), leg.currency)
        for leg in legs
        if leg.amount and leg.currency
    ]
    currency = amounts[0][1] if amounts else None
    total = sum(minor for minor, _ in amounts) if amounts else None
    return StatementLine(event.event_id, event.operation, event.provider_tx_id, currency, total)
