"""Session tokens: whose session a provider's call belongs to, without a store of sessions.

Some providers name a session and no player, or no currency. The casino makes the token when it
starts a game, with a key that it shares with the gateway: `<payload>.<mac>`, both base64url without
padding. The payload is a JSON array of the player's id, the wallet's currency and the end of the
session in epoch seconds; the mac is HMAC-SHA256 of the payload's text. The provider gives the token
back with each call.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

import msgspec

from schemas.errors import UsageError

KEY_BYTES_MIN: Final = 32
TOKEN_MAX: Final = 512


class PlayerSession(NamedTuple):
    """A player's session: whose it is, the currency of its wallet, and its end in epoch s."""

    player: str
    currency: str
    ends_s: int


_PAYLOAD: Final = msgspec.json.Decoder(tuple[str, str, int])


class SessionKey:
    """Makes and reads the tokens of one installation."""

    def __init__(self, key: bytes) -> None:
        """Keep the key. Raises UsageError for one of fewer than 32 bytes: it could be guessed."""
        if len(key) < KEY_BYTES_MIN:
            raise UsageError(
                f"the session key has {len(key)} bytes: give at least {KEY_BYTES_MIN}, as "
                "`openssl rand -hex 32` prints them"
            )
        self._key = key

    def make_token(self, session: PlayerSession) -> str:
        """Return the token of a session."""
        payload = _encode(msgspec.json.encode(session))
        return f"{payload}.{self._mac(payload)}"

    def read_token(self, token: str) -> PlayerSession | None:
        """Return the session of a token; None for a token that this key did not make."""
        payload, point, mac = token.partition(".")
        if not point or len(token) > TOKEN_MAX or not token.isascii():
            return None
        if not hmac.compare_digest(self._mac(payload), mac):
            return None
        try:
            return PlayerSession(*_PAYLOAD.decode(_decode(payload)))
        except ValueError:  # msgspec's and base64's errors are ValueErrors
            return None

    def _mac(self, payload: str) -> str:
        return _encode(hmac.digest(self._key, payload.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
