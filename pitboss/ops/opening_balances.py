"""A ledger bound to an empty log: every balance is stated in it, with the proof of its origin.

The broker is lost, and neither a mirror nor an archive of its log is left. The database is whole
and stays: its entries still know every earlier call, its blocks, limits and open bets hold. What
the new log lacks is where it begins. So each wallet's balance is its first event of that player: a
signed message of the house that names a signed checkpoint, whose seals cover every row that the
balance comes from. The ledger compares it with its own wallet when it books it; no money is made.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger_sink.proof.sealing import find_seal_faults, last_seals, seal_partitions
from ledger_sink.proof.seals import (
    Checkpoint,
    SignedCheckpoint,
    is_signature_valid,
    load_private_key,
    sign_checkpoint,
)
from ledger_sink.resolve.resolver import CONSUMER as RESOLVE
from ledger_sink.rules.journal import Wallet
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import CONSUMER as LEDGER
from pitboss.ops import checkpoints as published
from pitboss.ops.operator_events import active_signing_key, build_record
from pitboss.ops.rebind import (
    KIND,
    OpeningReport,
    RebindReport,
    bind,
    check_rebind,
    make_report,
    place_readers,
    survey_for_rebind,
)
from pitboss.ops.rebind_letters import prepare_raw
from pitboss.ops.recovery_session import wait_until_alone
from pitboss.settings import Runtime
from replay.audit.checks import check_tables
from replay.log.blocks import LogSource
from replay.raw.comparison import StoredRecord, records_of
from replay.recovery import record
from replay.recovery.mapping import PartitionMapping
from replay.recovery.order import OrderedLog
from replay.recovery.survey import SQL, Obstacle, PartitionSurvey, RecoveryRefused, Survey
from runtime.kafka.group_admin import GroupAdmin
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.errors import InvariantBroken, UsageError
from schemas.events import SignatureVerdict
from schemas.identity import HOUSE
from schemas.money import format_minor
from schemas.topics import CHECKPOINTS, TRANSACTIONS, raw_topic
from streams.normalise.handler import NAME as NORMALISE
from streams.normalise.mapping.brands import BrandsByProvider
from streams.normalise.mapping.normaliser import BRAND_DEFAULT, AcceptedTransaction, Normaliser
from streams.providers.keyring import Keyring
from streams.providers.registry import DIALECTS

OPERATION: Final = "balance.opened"
_RECORDS_AT_ONCE: Final = 2_000


class OpeningOptions(msgspec.Struct, frozen=True):
    """Who states the balances, and by which keys."""

    actor: str
    reason: str
    seal_key: Path
    """Private key of the sealer, PEM: it signs the checkpoint."""
    checkpoints: Path | None = None
    """Checkpoints of the old log that were kept elsewhere: the seals must be those that they name.
    """
    dry_run: bool = False
    wait_s: float = 30.0


async def rebind_with_openings(
    runtime: Runtime,
    source: LogSource,
    options: OpeningOptions,
    keyring: Keyring,
    brands: BrandsByProvider,
    begin: Callable[[str], None] = lambda _: None,
) -> RebindReport:
    """Bind the ledger to an empty log of another cluster, which begins with every balance.

    The key of the house in `keyring` signs the events, which are of the players' own `brands`.
    Killed before the end it can be run again. Raises RecoveryRefused where the log holds anything
    else, or the tables are not as they were sealed; UsageError without the keys; SendFailed,
    Unavailable.
    """
    began_s = time.monotonic()
    opener = _Opener(runtime, options, keyring, brands)
    admin = wait_until_alone(runtime, options.wait_s, begin, (NORMALISE,))
    async with survey_for_rebind(runtime, source, admin, dry_run=options.dry_run) as (
        database,
        survey,
    ):
        check_rebind(survey)
        begin("comparing the tables with their seals")
        await opener.check_proof(database)
        before = await opener.find_own_checkpoint()
        check_empty(source, survey, None if before is None else before.digest)
        mappings = {name: [_behind(one) for one in survey.of(name)] for name in (LEDGER, RESOLVE)}
        signed = None if options.dry_run else await opener.seal(survey.cluster_id, before)
        row = None
        if signed is not None:
            row = await record.begin(database, KIND, survey, options.actor)
        begin("stating the balances behind the offsets that rows name")
        bound = place_readers(runtime, source, mappings, dry_run=options.dry_run)
        opening = await opener.state_all(database, source, admin, signed)
        raw = await prepare_raw(
            runtime, source, database, options.actor, begin, dry_run=options.dry_run
        )
        report = make_report(
            survey, mappings, bound, began_s, raw, dry_run=options.dry_run, opening=opening
        )
        if row is not None:
            await bind(runtime, admin, database, row.id, mappings, report)
        return report


def _behind(one: PartitionSurvey) -> PartitionMapping:
    """Return the mapping of a log that has nothing of the old one."""
    return PartitionMapping(one.partition, [], one.booked, one.end, one.begin, one.end, None)


def check_empty(source: LogSource, survey: Survey, digest: str | None) -> None:
    """Check that the new log holds nothing but balances of an earlier run of this binding.

    `digest` is that of the checkpoint which that run has published, and its balances name. Raises
    RecoveryRefused, Unavailable.
    """
    for one in survey.partitions:
        log = OrderedLog(source, one.topic, {one.partition: one.begin}, {one.partition: one.end})
        for found in log:
            event = found.event
            is_ours = (
                digest is not None
                and event is not None
                and event.operation == OPERATION
                and event.cause is not None
                and event.cause.id == digest
            )
            if not is_ours:
                place = f"{one.topic}-{one.partition}@{found.source.offset}"
                raise RecoveryRefused(
                    Obstacle.NOT_EMPTY,
                    f"{place}: this log has begun already, so balances cannot be its first"
                    " events. A mirror is bound without --opening-balances; else stop the"
                    " workers and make the topics anew",
                )


class _Opener:
    """The steps of one run."""

    def __init__(
        self,
        runtime: Runtime,
        options: OpeningOptions,
        keyring: Keyring,
        brands: BrandsByProvider,
    ) -> None:
        """Read the keys. Raises UsageError without one."""
        self._runtime = runtime
        self._options = options
        self._normaliser = Normaliser(DIALECTS, keyring, brands=brands)
        self._key = load_private_key(options.seal_key.read_bytes())
        now_ms = time.time_ns() // 1_000_000
        self._house_key = active_signing_key(keyring, now_ms)
        if self._house_key is None:
            raise UsageError(
                "opening balances are signed, and the keys file has no key of house: set"
                " PITBOSS_KEYS_FILE to that of the workers"
            )
        self.unsealed = 0
        """Offsets that were booked behind the last seals."""

    async def check_proof(self, database: LedgerDatabase) -> None:
        """Check that the rows are as they were sealed, and the balances the sums of the rows.

        Raises RecoveryRefused, Unavailable.
        """
        runtime, key = self._runtime, self._key.public_key()
        file = self._options.checkpoints
        kept = [] if file is None else published.read_checkpoint_file(file)
        wrong = published.find_forgeries(kept, key)
        with published.connect(runtime, read_only=True) as connection:
            contents = [one.content() for one in kept if is_signature_valid(one, key)]
            faults = find_seal_faults(connection, runtime.topic(TRANSACTIONS), contents)
            wrong += [f"{fault.where}: {fault.what}" for fault in faults]
            sealed = {one.partition: one.next_offset for one in last_seals(connection)}
        checks = await check_tables(database)
        wrong += [f"{check.name}: {check.detail}" for check in checks if not check.holds]
        if wrong:
            raise RecoveryRefused(
                Obstacle.NOT_AS_SEALED,
                f"{wrong[0]}; {len(wrong)} faults in all (`pitboss ledger verify` lists them). Such"
                " tables prove no balance: restore a backup from before the change",
            )
        positions = await database.query(SQL["positions"], {"consumers": [LEDGER]})
        self.unsealed = sum(
            max(0, booked - sealed.get(partition, 0)) for _, partition, booked, *_ in positions
        )

    async def find_own_checkpoint(self) -> SignedCheckpoint | None:
        """Return the checkpoint that an earlier run of this binding has published.

        Raises RecoveryRefused where the new cluster has other checkpoints of this ledger.
        """
        there = await published.read_published_checkpoints(self._runtime)
        if not there:
            return None
        if len(there) == 1 and is_signature_valid(there[0], self._key.public_key()):
            return there[0]
        raise RecoveryRefused(
            Obstacle.OTHER_RECORD,
            f"{self._runtime.topic(CHECKPOINTS)} holds {len(there)} checkpoints of this ledger that"
            " are not of this binding: take them to the archive, and make the topic anew",
        )

    async def seal(self, cluster_id: str, before: SignedCheckpoint | None) -> SignedCheckpoint:
        """Seal what is not sealed yet, and publish the checkpoint that the balances name.

        It is the first one of a chain on the new cluster. A run that goes on finds its own, and
        nothing was booked since. Raises RecoveryRefused where that one names other seals.
        """
        runtime = self._runtime
        with published.connect(runtime, read_only=False) as connection:
            seal_partitions(connection, runtime.topic(TRANSACTIONS))
            seals = last_seals(connection)
        if before is not None:
            if before.content().seals == seals:
                return before
            raise RecoveryRefused(
                Obstacle.OTHER_RECORD,
                f"{runtime.topic(CHECKPOINTS)} holds a checkpoint with other seals than those of"
                " this database: take it to the archive, and make the topic anew",
            )
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        checkpoint = Checkpoint(1, at, cluster_id, runtime.database, "", seals)
        signed = sign_checkpoint(checkpoint, self._key)
        await published.publish(runtime, signed, self._options.seal_key)
        return signed

    async def state_all(
        self,
        database: LedgerDatabase,
        source: LogSource,
        admin: GroupAdmin,
        signed: SignedCheckpoint | None,
    ) -> OpeningReport:
        """Append every wallet's balance; only count them in a dry run. Raises SendFailed."""
        if signed is None:
            [(count,)] = await database.query(SQL["count_wallets"])
            return OpeningReport(int(count), None, None, self.unsealed)
        raw = self._runtime.topic(raw_topic(HOUSE))
        starts = {number: end for number, (_, end) in source.bounds(raw).items()}
        count = 0
        producer = BatchProducer(ProducerSettings(self._runtime.broker, "pitboss.rebind"))
        async with producer:
            async for wallets in _read_wallets(database):
                records = [self._sign(wallet, signed.digest) for wallet in wallets]
                await producer.send_keyed(raw, records)
                count += len(records)
            read_up_to = await self._append_events(
                source, producer, raw, starts, signed.digest, count
            )
        admin.set_offsets(self._runtime.group(NORMALISE), raw, read_up_to)
        return OpeningReport(count, signed.content().number, signed.digest, self.unsealed)

    def _sign(
        self, wallet: Wallet, digest: str
    ) -> tuple[bytes, bytes, Sequence[tuple[str, bytes | None]], None]:
        options, scale = self._options, wallet.scale
        player, currency = wallet.player_id, wallet.currency
        named = hashlib.sha256(msgspec.json.encode((digest, player, currency))).hexdigest()
        event: Mapping[str, Any] = {
            "operation": OPERATION,
            "id": named[:32],
            "player_id": player,
            "currency": currency,
            "cash": format_minor(wallet.cash_minor, scale),
            "bonus": format_minor(wallet.bonus_minor, scale),
            "held": format_minor(wallet.held_minor, scale),
            "checkpoint": digest,
            "actor": options.actor,
            "reason": options.reason,
        }
        now_ms = time.time_ns() // 1_000_000
        brand = wallet.brand or BRAND_DEFAULT
        body, headers = build_record(event, self._house_key, brand, now_ms)
        return player.encode(), body, headers, None

    async def _append_events(
        self,
        source: LogSource,
        producer: BatchProducer,
        raw: str,
        starts: Mapping[int, int],
        digest: str,
        expected: int,
    ) -> dict[int, int]:
        """Append what the normaliser makes of the records: before any other event of the log.

        Returns up to where the normaliser has nothing to read of each raw partition. What it reads
        once more, as where the cashier has written meanwhile, is known by its attempts.
        """
        topic, count = self._runtime.topic(TRANSACTIONS), 0
        reading = _OpeningReader(source, self._normaliser, raw, digest)
        for events in _in_groups(reading.read(starts)):
            await producer.send_keyed(topic, [(one.key, one.value, (), None) for one in events])
            count += len(events)
        if count != expected:
            raise InvariantBroken(f"{expected} balances were signed, and {count} can be read")
        return reading.read_up_to


class _OpeningReader:
    """Reads the opening balances of one binding from the raw topic, as the normaliser would."""

    def __init__(self, source: LogSource, normaliser: Normaliser, raw: str, digest: str) -> None:
        self._source = source
        self._normaliser = normaliser
        self._raw = raw
        self._digest = digest
        self.read_up_to: dict[int, int] = {}
        """By partition: behind the openings that it begins with."""

    def read(self, starts: Mapping[int, int]) -> Iterator[AcceptedTransaction]:
        """Yield the openings from some offsets on."""
        for partition, (begin, end) in self._source.bounds(self._raw).items():
            self.read_up_to[partition] = begin
            for block in self._source.read(self._raw, partition, begin, end):
                for offset, one in zip(block.offsets, records_of(block), strict=True):
                    opening = None if one is None else self._opening(one)
                    if opening is None:
                        continue
                    if self.read_up_to[partition] == offset:
                        self.read_up_to[partition] = offset + 1
                    if offset >= starts.get(partition, 0):
                        yield opening

    def _opening(self, one: StoredRecord) -> AcceptedTransaction | None:
        for item in self._normaliser.normalise(one):
            if isinstance(item, AcceptedTransaction):
                event = item.transaction
                is_ours = event.cause is not None and event.cause.id == self._digest
                is_signed = event.signature == SignatureVerdict.VALID
                if event.operation == OPERATION and is_ours and is_signed:
                    return item
        return None


def _in_groups(items: Iterator[AcceptedTransaction]) -> Iterator[list[AcceptedTransaction]]:
    group: list[AcceptedTransaction] = []
    for item in items:
        group.append(item)
        if len(group) >= _RECORDS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


async def _read_wallets(database: LedgerDatabase) -> AsyncIterator[list[Wallet]]:
    """Yield every wallet in which money has moved, in groups."""
    after = ("", "")
    while True:
        where = {"player": after[0], "currency": after[1], "most": _RECORDS_AT_ONCE}
        rows = await database.query(SQL["wallets"], where)
        if not rows:
            return
        wallets = []
        for *columns, brand in rows:
            wallets.append(wallet := Wallet(*columns))
            wallet.brand = brand
        after = wallets[-1].player_id, wallets[-1].currency
        yield wallets
