"""What a writer implements, what it is given, and what it returns.

`lab/conformance/writers/<module>.py` belongs to the adapter `streams/providers/<module>.py` and
defines one subclass of `Writer` and `WRITER`, an instance of it. Nothing else names the module: the
sandbox plays every provider that has one, with the verbs of its `says`.
"""

from __future__ import annotations

import secrets as randomness
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar, Final, NamedTuple, TypeAlias

from lab.conformance.intents import DEFAULT_BRAND, Game, Intent, Verb
from lab.conformance.writers.ids import Ids

JSON: Final = "application/json"
XML: Final = "application/xml"
FORM: Final = "application/x-www-form-urlencoded"

Secrets: TypeAlias = Mapping[str, str]
"""What a provider signs with, by name."""

Headers: TypeAlias = tuple[tuple[str, bytes], ...]


class Sending(NamedTuple):
    """What differs between two sendings of one content.

    `nonce` (128 random bits) is for request ids and sequence numbers. `style` is the random style
    of a retry from another node of the provider: other order of fields, other white space, other
    spelling of amounts; None for the usual form.
    """

    at_ms: int
    nonce: int = 0
    style: Random | None = None


class Message(NamedTuple):
    """Request of a provider: its body, the path that it goes to, and the provider's own headers.

    `key` is the raw record's: the player where the message names one, otherwise a reference.
    Header names are in lower case; the connector adds its own headers (`connector_headers`).
    """

    key: str
    body: bytes
    path: str
    content_type: str = JSON
    headers: Headers = ()


class Writer(ABC):
    """Writes one provider's messages.

    `says` maps the verbs that the provider knows to its operations, as the adapter must read them.
    """

    provider: ClassVar[str]
    says: ClassVar[Mapping[Verb, str]]
    secret_names: ClassVar[tuple[str, ...]] = ()
    """Names of its secrets; the keyring has the same, unless `keyring_of` says otherwise."""
    games: ClassVar[tuple[Game, ...]] = (Game("demo-1", 1), Game("demo-2", 2))
    decimals_max: ClassVar[int | None] = None
    """Decimals of an amount that the provider can print; players of finer currencies stay away."""
    verbs_with_the_bets_id: ClassVar[frozenset[Verb]] = frozenset()
    """Verbs whose message bears the id of the bet that it refers to."""
    batch_max: ClassVar[int] = 1
    """Intents of one brand that may share a message."""
    rolls_back_refused_bets: ClassVar[bool] = False

    @abstractmethod
    def write(self, items: Sequence[Intent], sending: Sending, secrets: Secrets | None) -> Message:
        """Write one message of the intents, one unless `batch_max` allows more.

        Signs only with `secrets`; without, whatever bears a signature or a secret is left out.
        The same arguments, `style` in the same state, make the same bytes. Raises ValueError for
        an amount that the provider cannot print.
        """

    def new_secrets(self) -> dict[str, str]:
        """Make new secrets from the machine's randomness: 64 hex digits each."""
        return {name: randomness.token_hex(32) for name in self.secret_names}

    def keyring_of(self, secrets: Secrets) -> Secrets:
        """Return what the normaliser needs to check this provider's signatures.

        Raises ValueError or KeyError for secrets that are not this provider's.
        """
        return {name: secrets[name] for name in self.secret_names}

    def draw_id(self, ids: Ids, verb: Verb, at_ms: int) -> str:
        """Draw a new transaction id for a message of this verb at this time."""
        del verb, at_ms
        return ids.uuid()

    def draw_follow_up_id(self, ids: Ids, verb: Verb, at_ms: int, bet: Intent) -> str:
        """Return the id of a message that belongs to a bet: the bet's own, or a new one."""
        if verb in self.verbs_with_the_bets_id:
            return bet.tx_id
        return self.draw_id(ids, verb, at_ms)

    def shape_deposit_id(self, id_: str) -> str:
        """Return the id under which the cashier opens a deposit at this provider."""
        return id_

    def draw_round(self, ids: Ids) -> str:
        """Draw a new round id."""
        return str(ids.number())

    def draw_campaign(self, ids: Ids) -> str:
        """Draw the id of a campaign of free rounds."""
        return ids.uuid()


def connector_headers(
    message: Message, received_at_ms: int, connector: str, brand: str, region: str
) -> Headers:
    """Return all headers of a raw record: the connector's, then the provider's own.

    The default brand and an empty region leave their headers out, as connectors do.
    """
    headers = [
        ("content-type", message.content_type.encode()),
        ("http-method", b"POST"),
        ("http-path", message.path.encode()),
        ("http-query", b""),
        ("received-at", b"%d" % received_at_ms),
        ("connector", connector.encode()),
    ]
    if brand != DEFAULT_BRAND:
        headers.append(("brand", brand.encode()))
    if region:
        headers.append(("region", region.encode()))
    return (*headers, *message.headers)
