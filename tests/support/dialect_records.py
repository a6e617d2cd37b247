"""Raw records for tests of dialects and normaliser, and the vectors in `tests/vectors/dialects`.

A vector is one request with its headers and the expected results. The bodies, keys and signatures
are our own.
"""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiokafka.structs import ConsumerRecord
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from streams.normalise.mapping.normaliser import AcceptedTransaction, ItemResult, RejectedItem

VECTORS = Path(__file__).parents[1] / "vectors" / "dialects"
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
APPENDED_AT = 1_790_000_000_200
PROVIDERS = ("hub88", "playngo", "adyen", "house")


class Vector(NamedTuple):
    provider: str
    name: str
    record: ConsumerRecord[bytes, bytes]
    schema: str | None
    """The payload schema that the body fulfils; None for one that breaks it."""
    results: list[dict[str, Any]]


def raw_record(
    provider: str,
    body: bytes | str | None,
    headers: Mapping[str, str | bytes | None] | None = None,
    *,
    partition: int = 3,
    offset: int = 42,
    timestamp: int = APPENDED_AT,
    topic: str | None = None,
) -> ConsumerRecord[bytes, bytes]:
    value = body.encode() if isinstance(body, str) else body
    pairs = [
        (name, text.encode() if isinstance(text, str) else text)
        for name, text in (headers or {}).items()
    ]
    name = topic or f"provider.{provider}.raw.v1"
    return ConsumerRecord(
        name, partition, offset, timestamp, 1, b"key", value, None, 3, len(value or b""), pairs
    )


@cache
def vector_file(provider: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{provider}.json").read_bytes())
    return loaded


@cache
def vectors() -> tuple[Vector, ...]:
    found = []
    for provider in PROVIDERS:
        file = vector_file(provider)
        for entry in file["vectors"]:
            record = raw_record(
                provider,
                entry["body"],
                entry["headers"],
                partition=file["partition"],
                offset=file["offset"],
                timestamp=file["timestamp"],
            )
            found.append(Vector(provider, entry["name"], record, entry["schema"], entry["results"]))
    return tuple(found)


def keyring() -> dict[str, dict[str, str]]:
    return {provider: vector_file(provider)["keyring"] for provider in PROVIDERS}


def as_vector_result(item: ItemResult) -> dict[str, Any]:
    if isinstance(item, RejectedItem):
        rejection = {"rejected": item.code.value, "detail": item.detail}
        return rejection | {"record_index": item.record_index, "player_id": item.player_id}
    assert isinstance(item, AcceptedTransaction)
    event = _without_defaults(msgspec.to_builtins(item.transaction))
    if "reference" in event:
        event["reference"] = _without_defaults(event["reference"])
    return {"topic": item.topic, "key": item.key.decode(), "clamped": item.clamped, "event": event}


def _without_defaults(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a vector does not state: nulls, and the defaults of the schema's version 2."""
    defaults = {"is_billable": True, "other_operations": [], "is_implied": False}
    return {
        name: value
        for name, value in fields.items()
        if value is not None and (name not in defaults or value != defaults[name])
    }


@cache
def _hub88_private_key() -> RSAPrivateKey:
    key = load_pem_private_key((VECTORS / "hub88-test-private.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


def hub88_signature(body: bytes) -> bytes:
    return base64.b64encode(_hub88_private_key().sign(body, PKCS1v15(), SHA256()))


def house_signature(body: bytes) -> bytes:
    key = bytes.fromhex(keyring()["house"]["hmac_hex"])
    return hmac.digest(key, body, "sha256").hex().encode()


def adyen_signature(item: Mapping[str, Any]) -> str:
    amount = item.get("amount", {})
    parts = [item["pspReference"], item.get("originalReference", ""), item["merchantAccountCode"]]
    parts += [
        item.get("merchantReference", ""),
        str(amount.get("value", "")),
        amount.get("currency", ""),
    ]
    parts += [item["eventCode"], item["success"]]
    key = bytes.fromhex(keyring()["adyen"]["hmac_hex"])
    return base64.b64encode(hmac.digest(key, ":".join(parts).encode(), "sha256")).decode()
