"""Skylift, an invented studio of crash games that speaks Avro: a dialect need not be text.

A body is one record in Avro's single-object encoding (Avro 1.12 specification, "Single-object
encoding"): two marker bytes, the fingerprint of the schema it was written with, the record. So the
version travels in the body, and bytes are never read as a schema that they were not written with,
which bare Avro would do silently and with other money. Records of version 1 are read as version 2:
a renamed field by its alias, new ones by their defaults.

Amounts are decimals of 8 places in major units, taken as integers; times are microseconds.
`X-Skylift-Signature` is the hex HMAC-SHA512 of the body. Answers are Avro too.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from io import BytesIO
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import Kind, Leg, Outcome, Reference, SignatureVerdict, WalletOutcome
from schemas.money import amount_of
from streams.providers.dialect import (
    Dialect,
    Draft,
    Headers,
    Item,
    KeyMaterial,
    Reader,
    Reply,
    UnreadableItem,
    require_key,
)
from streams.providers.fields import ID_MAX, currency_of, text_of
from streams.providers.http_face import HttpCall, HttpFace
from streams.providers.references import id_or_none
from streams.providers.signatures import Hmac
from streams.providers.times import ms_of_epoch

SIGNATURE_HEADER: Final = "x-skylift-signature"
CONTENT_TYPE: Final = "application/vnd.skylift+avro"
AMOUNT_SCALE: Final = 8
VERSIONS: Final = (1, 2)

_MARKER: Final = b"\xc3\x01"
_HEAD_BYTES: Final = 10
_AMOUNT_BYTES_MAX: Final = 16
_KINDS: Final = MappingProxyType(
    {"BET": Kind.BET, "CASHOUT": Kind.WIN, "JACKPOT": Kind.JACKPOT_WIN, "REFUND": Kind.ROLLBACK}
)
_STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys((Outcome.POSTED, Outcome.EXISTS, Outcome.INFORMATIONAL), "OK"),
        Outcome.TOMBSTONED: "ROLLED_BACK",
        Outcome.CANCELLED: "ROLLED_BACK",
        Outcome.CONFLICT: "CONFLICT",
        Outcome.REFUSED_FUNDS: "NO_FUNDS",
        Outcome.REFUSED_BLOCKED: "BLOCKED",
        Outcome.REFUSED_LIMIT: "LIMIT",
        Outcome.REFUSED_CURRENCY: "CURRENCY",
        Outcome.REFUSED_EXPIRED: "TOO_LATE",
        "REFUSED_REFERENCE": "NOT_FOUND",
    }
)

Schema: TypeAlias = Any


@dataclass(frozen=True)
class Skylift(Dialect):
    """Skylift's dialect. It has no settings: nothing about an invented provider is in doubt."""

    provider: ClassVar[str] = "skylift"
    version: ClassVar[str] = "2"
    decides: ClassVar[frozenset[str]] = frozenset({"BET"})
    face: ClassVar[HttpFace | None] = HttpFace(
        (HttpCall("/event", tuple(_KINDS)),),
        CONTENT_TYPE,
        signature_headers=(SIGNATURE_HEADER,),
        signs_bytes=True,
    )

    def reader(self, material: KeyMaterial | None) -> Reader:
        """Return a reader that checks `X-Skylift-Signature`. Needs `hmac_hex`."""
        matches = None
        if material is not None:
            matches = Hmac.from_hex(
                require_key(material, "hmac_hex", self.provider), "sha512"
            ).matches_hex
        return partial(self._read, matches, {prefix_of(n): schema_of("event", n) for n in VERSIONS})

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return a SkyliftReply; 200 even for a refusal, which the studio reads in `status`."""
        del request
        result = results[0] if results else None
        fields: dict[str, Any] = {
            "event_id": None,
            "status": "ERROR",
            "balance": None,
            "currency": None,
        }
        if isinstance(result, Rejected):
            fields["status"] = "UNREADABLE"
        elif result is not None:
            fields |= {
                "event_id": result.provider_tx_id,
                "status": _STATUSES.get(result.outcome, "ERROR"),
            }
            if (
                result.balance_minor is not None
                and result.scale is not None
                and result.scale <= AMOUNT_SCALE
            ):
                balance = result.balance_minor * 10 ** (AMOUNT_SCALE - result.scale)
                fields |= {"balance": decimal_bytes(balance), "currency": result.currency}
        return Reply(200, CONTENT_TYPE, encode("reply", 1, fields))

    def answer_unavailable(self, request: RawRecord) -> Reply:
        """Return the status ERROR."""
        return self.answer(request, [])

    def payload(self, value: bytes) -> bytes:
        """Return the record without marker and fingerprint."""
        return value[_HEAD_BYTES:]

    def _read(
        self,
        matches: Callable[[bytes, bytes], bool] | None,
        writers: Mapping[bytes, Schema],
        record: RawRecord,
        headers: Headers,
    ) -> list[Item]:
        value = record.value or b""
        verdict = SignatureVerdict.NOT_CHECKED.value
        if matches is not None:
            signature = headers.get(SIGNATURE_HEADER)
            if not signature:
                raise Rejected(
                    RejectCode.MISSING_SIGNATURE, f"the header {SIGNATURE_HEADER} is missing"
                )
            if not matches(value, signature):
                raise Rejected(
                    RejectCode.BAD_SIGNATURE, f"{SIGNATURE_HEADER} does not sign this body"
                )
            verdict = SignatureVerdict.VALID.value
        fields = _decode(writers, value)
        player_id = _id(fields["player_id"], "player_id")
        try:
            return [self._draft(fields, player_id, verdict)]
        except Rejected as error:
            raise UnreadableItem(error.reason, error.detail, player_id) from error

    def _draft(self, fields: Mapping[str, Any], player_id: str, verdict: str) -> Draft:
        operation: str = fields["type"]
        raw: bytes = fields["amount"]
        if not 0 < len(raw) <= _AMOUNT_BYTES_MAX:
            raise Rejected(RejectCode.BAD_AMOUNT, f"an amount of {len(raw)} bytes")
        amount = amount_of(int.from_bytes(raw, "big", signed=True), AMOUNT_SCALE)
        currency = currency_of(amount, fields["currency"])
        campaign_id = id_or_none(_optional_id(fields["campaign"], "campaign"))
        leg = Leg(_KINDS[operation].value, amount, currency, campaign_id is not None, campaign_id)
        bet_id = _optional_id(fields["bet_id"], "bet_id")
        if operation == "REFUND" and bet_id is None:
            raise Rejected(RejectCode.MISSING_FIELD, "bet_id is missing")
        return Draft(
            operation,
            _id(fields["event_id"], "event_id"),
            [leg],
            player_id,
            None if bet_id is None or operation == "BET" else Reference("BET", bet_id),
            _optional_id(fields["flight"], "flight"),
            fields["flight_over"],
            _optional_id(fields["game"], "game"),
            ms_of_epoch(fields["occurred_at"], "us", field="occurred_at"),
            operation in self.decides,
            verdict,
        )


def _decode(writers: Mapping[bytes, Schema], value: bytes) -> Mapping[str, Any]:
    """Decode the record as version 2. Raises Rejected(MALFORMED)."""
    writer = writers.get(value[:_HEAD_BYTES])
    if writer is None:
        raise Rejected(
            RejectCode.MALFORMED, "not single-object Avro of a schema that Skylift announced"
        )
    stream = BytesIO(value)
    stream.seek(_HEAD_BYTES)
    try:
        fields = fastavro.schemaless_reader(stream, writer, schema_of("event", VERSIONS[-1]))
    except (
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        MemoryError,
        struct.error,
    ) as error:
        raise Rejected(RejectCode.MALFORMED, f"not Avro: {type(error).__name__}") from None
    if stream.tell() != len(value) or not isinstance(fields, dict):
        raise Rejected(RejectCode.MALFORMED, "bytes after the record")
    return fields


@cache
def schema_of(name: str, version: int) -> Schema:
    """Return a schema under `schemas/providers/skylift`, parsed without logical types.

    Decimals stay bytes, times integers: fastavro would round a decimal to the schema's precision
    where the bytes hold more.
    """
    path = files("schemas") / "providers" / "skylift" / name / f"v{version}.avsc"
    return fastavro.parse_schema(_plain(json.loads(path.read_bytes())))


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _plain(child) for name, child in node.items() if name != "logicalType"}
    return [_plain(child) for child in node] if isinstance(node, list) else node


@cache
def prefix_of(version: int, name: str = "event") -> bytes:
    """Return the head of a single-object body.

    It is the marker and the schema's CRC-64-AVRO, little-endian.
    """
    return _MARKER + bytes.fromhex(
        fingerprint(to_parsing_canonical_form(schema_of(name, version)), "CRC-64-AVRO")
    )


def encode(name: str, version: int, fields: Mapping[str, Any]) -> bytes:
    """Encode a record of one of Skylift's schemas as a single object.

    Decimals are given as bytes.
    """
    stream = BytesIO()
    stream.write(prefix_of(version, name))
    fastavro.schemaless_writer(stream, schema_of(name, version), fields)
    return stream.getvalue()


def decimal_bytes(unscaled: int) -> bytes:
    """Return an unscaled decimal as Avro has it.

    That is two's complement, big-endian, as short as possible.
    """
    return unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)


def _id(text: str, name: str) -> str:
    if not text:
        raise Rejected(RejectCode.MISSING_FIELD, f"{name} is empty")
    if len(text) > ID_MAX:
        raise Rejected(RejectCode.BAD_FIELD, f"{name} is longer than {ID_MAX} characters")
    return text_of(text, name)


def _optional_id(text: str | None, name: str) -> str | None:
    return _id(text, name) if text else None
