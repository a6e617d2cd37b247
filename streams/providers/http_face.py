"""The HTTP face of a dialect as data: what a provider calls, and what the caller must be told.

It stands beside the mapping (`Dialect.face`), so that the gateway never knows a provider by name. A
provider gets one base URL a brand, `/<provider>` or `/brand/<brand>/<provider>`, and appends the
paths of its calls. Brand and region follow from the URL, never from what the provider sends. The
full path is the record's `http-path`, by which several dialects know the operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
XML: Final = "application/xml"

PATIENCE_MS: Final = 3_000
"""How long a call may wait where no source says how long its provider does: well below the time-out
of any game client that we know of, and long enough for a worker that restarts.
"""
CALL_BYTES_MAX: Final = 32 * 1024
"""The largest body of a wallet call; real ones have about one KiB."""
RECORD_BYTES_MAX: Final = 1_000_000
"""The largest body of any raw record (docs/howto/connectors.md)."""

SessionToken: TypeAlias = Callable[[bytes], str | None]
"""A function that returns the session token in a body; None where it has none. Raises nothing."""


@dataclass(frozen=True)
class HttpCall:
    """One call: its path behind the base URL (empty: the base itself), and what comes there.

    `operations` are the provider's words for what moves money or a state, `asks` those for
    questions (a balance, a session). All calls are POST: no provider here uses another method.
    `needs_session`: whether player or currency of the message are those of the session whose token
    it bears.
    """

    path: str
    operations: tuple[str, ...] = ()
    needs_session: bool = False
    asks: tuple[str, ...] = ()


@dataclass(frozen=True)
class HttpFace:
    """What a provider calls, and how long and for what it waits.

    `waits`: whether it waits for the decision of the ledger. Otherwise its answer is an
    acknowledgement that its message is durable, and follows the append. `signature_headers` are the
    only headers of a request that are passed on. `signs_bytes`: whether the signature is over the
    raw body and checked before that is read; then whatever is wrong with a body is the provider's
    own and is kept as a dead letter, and otherwise only what was read after its secret.
    """

    calls: tuple[HttpCall, ...]
    content_type: str = JSON
    signature_headers: tuple[str, ...] = ()
    signs_bytes: bool = False
    waits: bool = True
    patience_ms: int = PATIENCE_MS
    patience_source: str = "none states it; ours"
    body_bytes_max: int = CALL_BYTES_MAX
    session_token: SessionToken | None = None
