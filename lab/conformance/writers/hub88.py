"""Hub88's wallet calls as the operator receives them.

Field names, the idempotency rule and `X-Hub88-Signature` (RSA-SHA256 over the raw body, base64) are
those of docs.hub88.io, operator API reference, Wallet API. The unit of 1/100000 and the rollback
without amount and currency are taken from public integrators' code. The body carries no time. None
of these sources says which amount a free bet carries; ours carry 0, since the player pays nothing.
Hub88 rolls back after any answer but NOT_ENOUGH_MONEY and LIMIT_REACHED.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from lab.conformance.intents import Game, Intent, Verb
from lab.conformance.writers.encoding import json_body, units_of
from lab.conformance.writers.ids import Ids, uuid_of
from lab.conformance.writers.writer import Message, Secrets, Sending, Writer

DECIMALS: Final = 5  # 1 is 1/100000 of the currency's unit

_RSA_BITS: Final = 2048
_PKCS1V15: Final = padding.PKCS1v15()
_SHA256: Final = hashes.SHA256()


class Hub88Writer(Writer):
    """Writes bets, wins and rollbacks."""

    provider = "hub88"
    says: ClassVar = {
        Verb.BET: "bet",
        Verb.WIN: "win",
        Verb.FREE_BET: "bet",
        Verb.FREE_WIN: "win",
        Verb.ROLLBACK: "rollback",
    }
    secret_names = ("private_key_pem",)
    games = (
        Game("aur_pharaoh", 1201),
        Game("aur_fruits", 1202),
        Game("aur_crash", 1310),
        Game("aur_blackjack", 1415),
    )
    decimals_max = DECIMALS
    rolls_back_refused_bets = True

    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one call; `secrets` sign its body."""
        [intent] = items
        return self.sign(intent, json_body(self.fields(intent, sending), sending.style), secrets)

    def fields(self, intent: Intent, sending: Sending) -> dict[str, Any]:
        """Build the fields of the body in the order in which Hub88 prints them."""
        session = intent.session
        assert session is not None, "every call of Hub88 belongs to a session"
        fields: dict[str, Any] = {
            "user": intent.player,
            "transaction_uuid": intent.tx_id,
            "token": session.token,
            "supplier_user": f"hub88_{intent.player}",
            "round": intent.round_id,
            "round_closed": intent.round_closed,
            "request_uuid": uuid_of(sending.nonce),
            "game_id": session.game.number,
            "game_code": session.game.id,
        }
        if intent.reference is not None:
            fields["reference_transaction_uuid"] = intent.referred_id
        [leg] = intent.legs
        if leg.kind != "ROLLBACK":
            assert leg.minor is not None
            assert leg.currency is not None
            fields |= {
                "currency": leg.currency,
                "amount": units_of(leg.minor, leg.currency, DECIMALS),
                "is_free": leg.is_free,
                "reward_uuid": leg.campaign,
                "bet": "main",
            }
        fields["meta"] = None
        return fields

    def sign(self, intent: Intent, body: bytes, secrets: Secrets | None) -> Message:
        """Return the message with this body; without `secrets` it has no signature."""
        path = f"/transaction/{intent.operation}"
        if secrets is None:
            return Message(intent.player or "", body, path)
        headers = (("x-hub88-signature", signature(body, secrets)),)
        return Message(intent.player or "", body, path, headers=headers)

    def new_secrets(self) -> dict[str, str]:
        """Make an RSA key of 2048 bits."""
        pem = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {"private_key_pem": pem.decode()}

    def keyring_of(self, secrets: Secrets) -> Secrets:
        """Return the public half of the key."""
        public_pem = (
            _private_key(secrets["private_key_pem"])
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return {"public_key_pem": public_pem.decode()}

    def draw_round(self, ids: Ids) -> str:
        """Draw a round id with a prefix: it is text, not a number."""
        return f"R-{ids.number()}"


def signature(body: bytes, secrets: Secrets) -> bytes:
    """Sign the body as in `X-Hub88-Signature`; 0.2 to 0.3 ms a call.

    PKCS #1 v1.5 signs without randomness: the same key and body make the same signature.
    """
    return base64.b64encode(_private_key(secrets["private_key_pem"]).sign(body, _PKCS1V15, _SHA256))


@lru_cache(maxsize=8)
def _private_key(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        message = "the hub88 key is not an RSA key"
        raise ValueError(message)  # noqa: TRY004 - the content of a file, not a type of ours
    return key


WRITER: Final = Hub88Writer()
