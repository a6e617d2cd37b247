"""The answer to a provider in the language of the version that its record was read as.

A connector has the record, and from `wallet.outcomes.v1` the outcome of each of its items; these
two determine the bytes to send back. Pure: the same record and results, the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import WalletOutcome
from schemas.topics import provider_of
from streams.providers.dialect import Reply
from streams.providers.registry import DIALECTS, Dialects
from streams.providers.routing import ProviderRouter


class Answers:
    """The answers for every provider of some dialects.

    Make one when a connector starts, not for each request.
    """

    def __init__(self, dialects: Dialects = DIALECTS) -> None:
        """Keep the dialects; a provider's router is made at its first request."""
        self._dialects = dialects
        self._routers: dict[str, ProviderRouter] = {}

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return the provider's response; `results` are in the order of the body.

        See `Dialect.answer`. Raises Rejected(UNKNOWN_PROVIDER) for a topic that belongs to none of
        the dialects.
        """
        try:
            provider = provider_of(request.topic)
            versions = self._dialects.versions(provider)
        except (ValueError, KeyError):
            raise Rejected(
                RejectCode.UNKNOWN_PROVIDER, f"no dialect reads {request.topic!r}"
            ) from None
        if len(versions) == 1:
            return versions[0].dialect.answer(request, results)
        if provider not in self._routers:
            # Without keys: signatures were checked when the record was read, only its form matters
            # here.
            self._routers[provider] = ProviderRouter(versions, None)
        version_read = self._routers[provider].resolve_version(request)
        return next(
            version for version in versions if version.row.version == version_read
        ).dialect.answer(request, results)
