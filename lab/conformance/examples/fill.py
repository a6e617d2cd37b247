"""What an adapter's examples are made of: contents to fill in, the messages made of them, and what
must be read there.

The examples of an adapter stand in `lab/conformance/examples/<module>.py`, where `<module>` is the
name of the module that holds the adapter's class: those of `streams.providers.hub88:Hub88` in
`hub88.py`. Nothing else names them. Such a module exposes

- `KEYS`: the key material that the keyring would hold for this provider, secrets of its own made up
  for it. An empty mapping says that the provider signs nothing that its adapter could check. For
  RSA take the pair of `rsa_keys.py`.
- `examples(fill)`: the messages of a whole round (bet, win, rollback, a free round, a win of zero,
  odd but legal spellings) as this provider would send and sign them, each with what must be read in
  it. Pure: same fill, same bytes.
- `CURRENCIES` (optional): the codes that this provider can print, if they are not `CURRENCIES`
  here.
- `rebatch(fill)`: only where messages have several items: the same items as in `examples(fill)`, in
  another order and cut into other messages.
- `OTHER_KEYS` (optional): key material of somebody else, under which nothing of this provider's is
  signed rightly; by default every entry of `KEYS` with one digit or letter changed.
- `payload(example)`: only where bodies are neither JSON, XML, Avro nor a form: the body as the
  value that the payload schema describes.
- `BALANCE_DECIMALS`: only where the provider waits for decisions: its answers tell the balance in
  units of 10**-BALANCE_DECIMALS (Hub88: 5; major units: 0). None if they tell no balance.

Text of a hostile fill must be escaped as the format asks for (`&lt;`, `%20`): the provider's code
did that too.

The conformance suite, `pitboss providers fuzz` and `pitboss bench adapters` live on these modules.
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
"""One of each number of decimals that a wallet can have (2, 0, 3, 4, 6, 8), and two that Adyen
counts otherwise.
"""

AT_MS: Final = 1_795_183_400_123
"""14:03:20.123 UTC on 20 November 2026: not a whole hour, and no time at which two zones agree."""

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
    "x" * 128,
    "x" * 129,
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
    """The content of one round, a pure function of `seed`; each part can be asked for again and
    stays what it is.

    `sending` counts how often the provider has sent this content: `request_id` and the times differ
    between two sendings, everything else is the same. A `hostile` fill has legal text that careless
    code breaks on, and amounts up to and beyond what 64 bits hold: an adapter may reject it, but
    must never read anything else than what it says.
    """

    seed: int
    currency: str = "EUR"
    first_at_ms: int = AT_MS
    sending: int = 0
    hostile: bool = False
    amounts: int = 0
    """Another number here, and the same ids stand for other amounts: a conflict, not a retry."""

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
        """Decimals of the currency's minor unit; 2 for a code that nobody knows."""
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
        """The n-th transaction id of this round.

        Unique over fills; may be odd text in a hostile one.
        """
        return self._hostile_text(f"tx{n}") or f"tx-{self.uuid(n)}"

    def uuid(self, n: int = 0) -> str:
        """The n-th id where a provider wants a UUID (version 4 in form)."""
        return _uuid_text(self._digest(f"uuid{n}"))

    def number(self, n: int = 0) -> int:
        """The n-th id where a provider wants a number: 1 to 2**53 - 1, unique as far as that goes."""
        return 1 + self._number(f"number{n}") % (2**53 - 1)

    def request_id(self, n: int = 0) -> str:
        """A UUID that differs between two sendings of the same content: request ids, sequence
        numbers, nonces.
        """
        return _uuid_text(self._digest(f"request{n}/{self.sending}"))

    def pick(self, n: int, of: int) -> int:
        """The n-th free choice, 0 to `of` - 1: for spellings that may vary from fill to fill."""
        return self._number(f"pick{n}") % of

    def amount(self, n: int = 0, decimals: int | None = None) -> Decimal:
        """The n-th amount in major units: at most the currency's decimals, and at most `decimals`
        where given.

        Above zero in a valid fill; a hostile one has zeros and amounts that no wallet can hold.
        """
        scale = self.scale if decimals is None else min(self.scale, decimals)
        chance = self._number(f"amount{n}/{self.amounts}")
        if self.hostile and chance % 4 == 0:
            minor = _HOSTILE_MINOR[(chance >> 8) % len(_HOSTILE_MINOR)]
        elif self.hostile and chance % 4 == 1:
            # More digits than a float holds, and fewer than 64 bits do: who takes a detour over a
            # float shows here.
            minor = 1 + (chance >> 16) % 10 ** (13 + (chance >> 8) % 7)
        else:
            # Sizes as they come: one minor unit, some coins, a day's pay, a jackpot.
            size = (10, 10**3, 10**5, _MAJOR_MAX * 10**scale)[(chance >> 8) % 4]
            minor = 1 + (chance >> 16) % size
        return Decimal(minor).scaleb(-scale)

    def headers(
        self, content_type: str, path: str, more: Mapping[str, bytes] | None = None
    ) -> dict[str, bytes]:
        """A connector's headers around a POST to `path`; `more` are the provider's own, by
        lower-case name.
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
        """The same content sent once more: later, and with other request ids."""
        return replace(self, sending=self.sending + 1)

    def _digest(self, name: str) -> bytes:
        return blake2b(f"{self.seed}/{name}".encode(), digest_size=16).digest()

    def _number(self, name: str) -> int:
        return int.from_bytes(self._digest(name), "big")

    def _hostile_text(self, name: str) -> str | None:
        if not self.hostile:
            return None
        chance = self._number("hostile" + name)
        # Half of them stay tame: in a message where everything is odd, the first oddity hides the
        # others.
        return None if chance % 2 else _HOSTILE_TEXTS[(chance >> 1) % len(_HOSTILE_TEXTS)]


class Expected(msgspec.Struct, frozen=True):
    """What must be read of one item of a message.

    `legs` are (kind, amount in major units or None). `reference` is (operation, transaction id).
    `signature` is the verdict under `KEYS`. Make those of player events, market events and
    rejections with `event` and `rejected`.
    """

    operation: str
    tx_id: str
    player_id: str | None
    legs: tuple[tuple[str, Decimal | None], ...] = ()
    reference: tuple[str, str] | None = None
    signature: str = SignatureVerdict.VALID.value
    currency: str | None = None
    """Of the legs' amounts, where it is not the fill's."""
    at_ms: int | None = None
    """The provider's clock as read from the message.

    None: none, or the fill's (of the first sending, or of this).
    """
    is_event: bool = False
    code: RejectCode | None = None

    @classmethod
    def event(
        cls,
        operation: str,
        event_id: str,
        player_id: str | None = None,
        *,
        signature: str = SignatureVerdict.VALID.value,
    ) -> Self:
        """A PlayerDraft under its `provider_event_id`, or a MarketDraft under `market_id_text`."""
        return cls(operation, event_id, player_id, signature=signature, is_event=True)

    @classmethod
    def rejection(cls, code: RejectCode) -> Self:
        """An item that every adapter of this provider must refuse, with this code."""
        return cls("", "", None, code=code)


def market_id_text(match_id: str, market_id: str, specifiers: str, outcome_id: str | None) -> str:
    """How `Expected.event` names a MarketDraft, which has no id of its own."""
    return "/".join((match_id, market_id, specifiers, outcome_id or ""))


class Example(msgspec.Struct, frozen=True):
    """One message as it reaches the raw topic: headers by lower-case name, the raw key, the exact
    bytes.

    `schema` names the payload schema (the folder under `schemas/providers/<provider>`) that the
    body fulfils. None: the folder named as the first item's operation, or the provider's only
    folder. A message whose items are all rejected need not fulfil any.
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
    """The raw record of an example; by default the broker appends it shortly after its
    `received-at`.
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
    """An amount without exponent: `1E+2` is 100."""
    return f"{amount:f}"


def units(amount: Decimal, decimals: int) -> int:
    """An amount in units of 10**-decimals, exactly.

    Raises ValueError where it does not come out even.
    """
    scaled = amount.scaleb(decimals)
    whole = int(scaled)
    if whole != scaled:
        message = f"{amount} is no whole number of units of 10^-{decimals}"
        raise ValueError(message)
    return whole


def _uuid_text(digest: bytes) -> str:
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:32]}"
