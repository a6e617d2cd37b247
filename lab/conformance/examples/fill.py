"""Building blocks of an adapter's examples: contents, messages, and the expected readings.

The examples of an adapter are in `lab/conformance/examples/<module>.py`, where `<module>` is the
name of the module that holds the adapter's class: those of `streams.providers.hub88:Hub88` in
`hub88.py`. Nothing else names them. Such a module exposes

- `KEYS`: the key material that the keyring would hold for this provider, with invented secrets. An
  empty mapping says that the provider signs nothing that its adapter could check. For RSA take the
  pair of `rsa_keys.py`.
- `examples(fill)`: the messages of a whole round (bet, win, rollback, a free round, a win of zero,
  odd but legal spellings) as this provider would send and sign them, each with what must be read in
  it. Pure: same fill, same bytes.
- `CURRENCIES` (optional): the codes that this provider can print, if they are not `CURRENCIES`
  here.
- `rebatch(fill)`: only where messages have several items: the same items as in `examples(fill)`, in
  another order and cut into other messages.
- `OTHER_KEYS` (optional): key material of another party, under which none of this provider's
  signatures is right; by default every entry of `KEYS` with one digit or letter changed.
- `payload(example)`: only where bodies are neither JSON, XML, Avro nor a form: the body as the
  value that the payload schema describes.
- `BALANCE_DECIMALS`: only where the provider waits for decisions: its answers state the balance in
  units of 10**-BALANCE_DECIMALS (Hub88: 5; major units: 0), or in minor units of the currency
  (`MINOR`). None if they state no balance.
- `read_balance(body)` (optional): the balance of an answer in these units, or None, where answers
  are not text.

Ordinary messages come from the provider's writer (`written.py`); odd but legal spellings stand in
the examples themselves. Text of a hostile fill must be escaped as the format asks for (`&lt;`,
`%20`): the provider's code did that too.

The conformance suite, `pitboss providers fuzz` and `pitboss bench adapters` use these modules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import blake2b
from typing import Final, Self

import msgspec

from schemas.errors import RejectCode
from schemas.events import SignatureVerdict
from schemas.money import AMOUNT_MAX, EXPONENTS
from schemas.topics import raw_topic

CURRENCIES: Final = ("EUR", "JPY", "KWD", "CLF", "USDT", "BTC", "ISK", "CLP")
"""One currency per number of decimals that a wallet can have, and two that Adyen counts otherwise.

The numbers are 2, 0, 3, 4, 6 and 8.
"""

AT_MS: Final = 1_795_183_400_123
"""14:03:20.123 UTC on 20 November 2026: not a whole hour, and no time at which two zones agree."""

MINOR: Final = "minor"
"""BALANCE_DECIMALS of a provider that states a balance in minor units of its currency."""

_MS_BETWEEN_SENDINGS: Final = 1_700
_CONNECTOR_LAG_MS: Final = 40
_BROKER_LAG_MS: Final = 60

# Valid amounts have at most this many major units: in the smallest unit of any provider they still
# fit 64 bits.
_MAJOR_MAX: Final = 10_000_000

_HOSTILE_TEXTS: Final = (
    "a<b>&amp;c",
    "]]><x/>",
    "a\"b'c",
    "a&b=c%20d+e",
    "{'$ne':1}\\u0000",
    "ünï-çødé-玩家-🎰",
    "٣٤٥",
    "two  spaces",
    "x1" * 64,  # as long as an id may be, and no placeholder
    "x1" * 64 + "x",
    "00012",
    "1e5",
    "-1",
    "null",
    "../../etc/passwd",
    "a;b|c:d,e",
    "NaN",
)
_HOSTILE_MINOR: Final = (
    0,
    1,
    9,
    10**15,
    2**31 - 1,
    2**31,
    2**53 + 1,
    2**62,
    AMOUNT_MAX,
    AMOUNT_MAX + 1,
    10**25,
)


@dataclass(frozen=True)
class Fill:
    """The content of one round, a pure function of `seed`.

    Each part stays the same however often it is read. `sending` counts how often the provider has
    sent this content: `request_id` and the times differ between two sendings, everything else is
    the same. A `hostile` fill has legal text that careless code breaks on, and amounts up to and
    beyond what 64 bits hold: an adapter may reject it, but must never read anything else than what
    it says.
    """

    seed: int
    currency: str = "EUR"
    first_at_ms: int = AT_MS
    sending: int = 0
    hostile: bool = False
    amounts: int = 0
    """The variant of the amounts.

    With another number the same ids have other amounts: a conflict, not a retry.
    """

    @property
    def at_ms(self) -> int:
        """The provider's clock at this sending, epoch milliseconds."""
        return self.first_at_ms + self.sending * _MS_BETWEEN_SENDINGS

    @property
    def received_at_ms(self) -> int:
        """The connector's clock at the receipt."""
        return self.at_ms + _CONNECTOR_LAG_MS

    @property
    def appended_at_ms(self) -> int:
        """The broker's clock at the append."""
        return self.at_ms + _BROKER_LAG_MS

    @property
    def scale(self) -> int:
        """Decimals of the currency's minor unit; 2 for an unknown code."""
        return EXPONENTS.get(self.currency.upper(), 2)

    @property
    def player(self) -> str:
        """The player's id."""
        return self._hostile_text("player") or f"p-{self._number('player') % 10**6:06d}"

    @property
    def round(self) -> str:
        """The round's id: digits, for providers whose rounds are numbers."""
        return self._hostile_text("round") or str(7_000_000_000 + self._number("round") % 10**9)

    @property
    def game(self) -> str:
        """The game's id."""
        return self._hostile_text("game") or f"acme_{self._number('game') % 900 + 100}"

    @property
    def campaign(self) -> str:
        """The id of a campaign: free rounds, a promotion."""
        return self._hostile_text("campaign") or f"camp-{self._number('campaign') % 10**4:04d}"

    def tx(self, n: int = 0) -> str:
        """Return the n-th transaction id of this round.

        It is unique over fills; in a hostile one it may be odd text.
        """
        return self._hostile_text(f"tx{n}") or f"tx-{self.uuid(n)}"

    def uuid(self, n: int = 0) -> str:
        """Return the n-th id for a provider that uses UUIDs (version 4 in form)."""
        return _uuid_text(self._digest(f"uuid{n}"))

    def number(self, n: int = 0) -> int:
        """Return the n-th id for a provider that uses numbers.

        It is from 1 to 2**53 - 1, unique as far as that goes.
        """
        return 1 + self._number(f"number{n}") % (2**53 - 1)

    def request_id(self, n: int = 0) -> str:
        """Return a UUID that differs between two sendings of the same content.

        It is for request ids, sequence numbers and nonces.
        """
        return _uuid_text(self._digest(f"request{n}/{self.sending}"))

    def pick(self, n: int, of: int) -> int:
        """Return the n-th free choice, 0 to `of` - 1, for spellings that vary from fill to fill."""
        return self._number(f"pick{n}") % of

    def amount(self, n: int = 0, decimals: int | None = None) -> Decimal:
        """Return the n-th amount in major units.

        It has at most the currency's decimals, and at most `decimals` where given. Above zero in a
        valid fill; a hostile one has zeros and amounts that no wallet can hold.
        """
        scale = self.scale if decimals is None else min(self.scale, decimals)
        draw = self._number(f"amount{n}/{self.amounts}")
        if self.hostile and draw % 4 == 0:
            minor = _HOSTILE_MINOR[(draw >> 8) % len(_HOSTILE_MINOR)]
        elif self.hostile and draw % 4 == 1:
            # More digits than a float holds, and fewer than 64 bits do: code that converts to a
            # float fails here.
            minor = 1 + (draw >> 16) % 10 ** (13 + (draw >> 8) % 7)
        else:
            # Sizes as they come: one minor unit, some coins, a day's pay, a jackpot.
            size = (10, 10**3, 10**5, _MAJOR_MAX * 10**scale)[(draw >> 8) % 4]
            minor = 1 + (draw >> 16) % size
        return Decimal(minor).scaleb(-scale)

    def headers(
        self, content_type: str, path: str, more: Mapping[str, bytes] | None = None
    ) -> dict[str, bytes]:
        """Return a connector's headers around a POST to `path`.

        `more` are the provider's own, by lower-case name.
        """
        return {
            "content-type": content_type.encode(),
            "http-method": b"POST",
            "http-path": path.encode(),
            "http-query": b"",
            "received-at": b"%d" % self.received_at_ms,
            "connector": b"examples",
            **(more or {}),
        }

    def again(self) -> Self:
        """Return the same content sent once more: later, and with other request ids."""
        return replace(self, sending=self.sending + 1)

    def _digest(self, name: str) -> bytes:
        return blake2b(f"{self.seed}/{name}".encode(), digest_size=16).digest()

    def _number(self, name: str) -> int:
        return int.from_bytes(self._digest(name), "big")

    def _hostile_text(self, name: str) -> str | None:
        if not self.hostile:
            return None
        draw = self._number("hostile" + name)
        # Half of them stay tame: in a message where everything is odd, the first oddity hides the
        # others.
        return None if draw % 2 else _HOSTILE_TEXTS[(draw >> 1) % len(_HOSTILE_TEXTS)]


class Expected(msgspec.Struct, frozen=True):
    """The content that must be read from one item of a message.

    `legs` are (kind, amount in major units or None). `reference` is (operation, transaction id).
    `signature` is the verdict under `KEYS`. Make those of player events, market events and
    rejections with `event` and `rejection`.
    """

    operation: str
    tx_id: str
    player_id: str | None
    legs: tuple[tuple[str, Decimal | None], ...] = ()
    reference: tuple[str, str] | None = None
    signature: str = SignatureVerdict.VALID.value
    currency: str | None = None
    """Currency of the legs' amounts, where it is not the fill's; empty where they name none."""
    at_ms: int | None = None
    """The provider's clock as read from the message.

    None: none, or the fill's (of the first sending, or of this).
    """
    is_event: bool = False
    code: RejectCode | None = None
    free_legs: tuple[bool, ...] | None = None
    """Whether each leg costs the player nothing; None: not compared."""
    decides: bool | None = None
    """Whether the provider waits for a yes or no; None: not compared."""
    round_closed: bool | None = None
    """Whether it ends its round; None: not compared."""

    @classmethod
    def event(
        cls,
        operation: str,
        event_id: str,
        player_id: str | None = None,
        *,
        signature: str = SignatureVerdict.VALID.value,
    ) -> Self:
        """Make the expectation of a player event or a market event.

        A PlayerDraft is named by its `provider_event_id`, a MarketDraft by `market_id_text`.
        """
        return cls(operation, event_id, player_id, signature=signature, is_event=True)

    @classmethod
    def rejection(cls, code: RejectCode) -> Self:
        """Make the expectation of an item that every adapter must refuse with this code."""
        return cls("", "", None, code=code)


def market_id_text(match_id: str, market_id: str, specifiers: str, outcome_id: str | None) -> str:
    """Return the name that `Expected.event` gives to a MarketDraft, which has no id of its own."""
    return "/".join((match_id, market_id, specifiers, outcome_id or ""))


class Example(msgspec.Struct, frozen=True):
    """One message as it reaches the raw topic.

    It has headers by lower-case name, the raw key, and the exact bytes. `schema` names the payload
    schema (the folder under `schemas/providers/<provider>`) that the body fulfils. None: the folder
    named as the first item's operation, or the provider's only folder. A message whose items are
    all rejected need not fulfil any.
    """

    name: str
    headers: dict[str, bytes]
    key: bytes
    value: bytes
    expects: tuple[Expected, ...]
    schema: str | None = None


class ExampleRecord(msgspec.Struct, frozen=True):
    """An example at its place in a raw topic; a `RawRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def record(
    example: Example,
    provider: str,
    *,
    partition: int = 0,
    offset: int = 0,
    appended_at_ms: int | None = None,
) -> ExampleRecord:
    """Return the raw record of an example.

    By default the broker appends it shortly after its `received-at`.
    """
    if appended_at_ms is None:
        received_at = example.headers.get("received-at", b"")
        usable = received_at.isdigit() and len(received_at) < 15
        appended_at_ms = int(received_at) + _BROKER_LAG_MS - _CONNECTOR_LAG_MS if usable else AT_MS
    headers = tuple(example.headers.items())
    return ExampleRecord(
        raw_topic(provider), partition, offset, appended_at_ms, example.key, example.value, headers
    )


def plain(amount: Decimal) -> str:
    """Return an amount without exponent: `1E+2` is 100."""
    return f"{amount:f}"


def units(amount: Decimal, decimals: int) -> int:
    """Return an amount in units of 10**-decimals, exactly.

    Raises ValueError where it is not a whole number of them.
    """
    scaled = amount.scaleb(decimals)
    whole = int(scaled)
    if whole != scaled:
        message = f"{amount} is not a whole number of units of 10^-{decimals}"
        raise ValueError(message)
    return whole


def _uuid_text(digest: bytes) -> str:
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"
