"""A provider of the simulator's own, whose one call holds several transactions, all or nothing.

No registered provider sends such a call, but several aggregators do: `{player, items: [{type, id,
amount, currency, round, of}]}`, each item under an id of its own. A win names no bet; it belongs to
the bet of its round beside it, if there is one. A rollback names the id of a bet or of a win, and
does not say which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import ClassVar, Final

import msgspec

from lab.conformance.intents import Intent, Verb, scale_of
from lab.conformance.writers.writer import Message, Secrets, Sending, Writer
from runtime.kafka.records import RawRecord
from schemas.errors import Rejected
from schemas.events import Kind, Leg, Reference, SignatureVerdict, WalletOutcome
from schemas.money import amount_from_text, format_minor
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    Reader,
    Reply,
    UnreadableItem,
)
from streams.providers.fields import (
    CurrencyText,
    Id,
    OptionalId,
    currency_of,
    optional_text,
    read_json,
    require,
    text_of,
)

BUNDLE: Final = "bundle"
BUNDLE_MAX: Final = 8
"""Transactions of a call."""
_KINDS: Final = {"bet": Kind.BET.value, "win": Kind.WIN.value}


class _CallItem(msgspec.Struct):
    type: str
    id: Id
    amount: str = "0"
    currency: CurrencyText = "EUR"
    round: OptionalId = None
    of: OptionalId = None


class _Call(msgspec.Struct):
    player: Id
    items: list[_CallItem]


_CALL: Final = msgspec.json.Decoder(_Call)


@dataclass(frozen=True)
class Bundle(Dialect):
    """Reads each item of a call as a transaction of its own, in one group."""

    provider: ClassVar[str] = BUNDLE
    version: ClassVar[str] = "1"
    decides: ClassVar[frozenset[str]] = frozenset({"bet"})

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader; the calls bear no signature."""
        del material
        return partial(self._read)

    def _read(self, record: RawRecord, headers: Headers) -> list[Item]:
        del headers
        call = read_json(_CALL, record.value or b"")
        player_id = text_of(call.player, "player")
        items: list[Item] = []
        for item in call.items:
            try:
                items.append(self._draft(call, item, player_id))
            except Rejected as error:
                items.append(UnreadableItem(error.reason, error.detail, player_id))
        return items

    def _draft(self, call: _Call, item: _CallItem, player_id: str) -> Draft:
        round_id = optional_text(item.round, "round")
        if item.type == "rollback":
            reference: Reference | None = Reference(
                "bet", require(optional_text(item.of, "of"), "of"), ["win"]
            )
            leg = Leg(Kind.ROLLBACK.value)
        else:
            amount = amount_from_text(item.amount)
            leg = Leg(_KINDS[item.type], amount, currency_of(amount, item.currency))
            reference = None
            if item.type == "win":
                bet = next(
                    (one for one in call.items if (one.type, one.round) == ("bet", item.round)),
                    None,
                )
                if bet is not None:
                    reference = Reference("bet", text_of(bet.id, "id"), is_implied=True)
        return Draft(
            item.type,
            text_of(item.id, "id"),
            [leg],
            player_id,
            reference,
            round_id,
            round_closed=False,
            game_id=None,
            provider_at=None,
            decision_required=item.type in self.decides,
            signature=SignatureVerdict.NOT_CHECKED.value,
            group="call",
        )

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return `{done, balance}`: done only if every item is, the balance after the last one."""
        del request
        outcomes = [result for result in results if isinstance(result, WalletOutcome)]
        done = len(outcomes) == len(results) and all(
            outcome.outcome in {"POSTED", "EXISTS", "TOMBSTONED"} for outcome in outcomes
        )
        last = outcomes[-1] if outcomes else None
        balance = None
        if last is not None and last.balance_minor is not None:
            balance = format_minor(last.balance_minor, last.scale or 0)
        body = {"done": done, "balance": balance}
        return Reply(200, "application/json", msgspec.json.encode(body))


class BundleWriter(Writer):
    """Writes calls of any number of items of one player."""

    provider = BUNDLE
    says: ClassVar = {Verb.BET: "bet", Verb.WIN: "win", Verb.ROLLBACK: "rollback"}
    batch_max = BUNDLE_MAX

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one call, without a signature."""
        del secrets
        player = items[0].player or ""
        body = {"player": player, "items": [_fields(item, sending.style) for item in items]}
        return Message(player, msgspec.json.encode(body), "/wallet/bundle")


def _fields(intent: Intent, style: Random | None) -> dict[str, str]:
    [leg] = intent.legs
    fields = {"type": intent.operation, "id": intent.tx_id, "round": intent.round_id or ""}
    if leg.minor is not None and leg.currency is not None:
        fields["amount"] = format_minor(leg.minor, scale_of(leg.currency))
        fields["currency"] = leg.currency
    if intent.operation == "rollback":
        fields["of"] = intent.referred_id or ""
    if style is None:
        return fields
    names = style.sample(sorted(fields), len(fields))
    return {name: fields[name] for name in names}


WRITER: Final = BundleWriter()
