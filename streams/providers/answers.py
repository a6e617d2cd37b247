"""The answer to a provider in the language of the version that its record was read as.

A connector has the record, and from `wallet.outcomes.v1` the outcome of each of its items; these
two determine the bytes to send back. A record may have several items: `Answers.begin` says how many
outcomes will come, and what can be said without one. Pure: the same record and results, the same
bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode, Rejected
from schemas.events import WalletOutcome
from schemas.topics import provider_of
from streams.providers.dialect import Dialect, Draft, Item, Reply
from streams.providers.groups import reject_broken_groups
from streams.providers.keyring import Keyring
from streams.providers.registry import DIALECTS, Dialects, Version
from streams.providers.routing import ProviderRouter


class PendingAnswer:
    """The answer to one record while the outcomes of its items come in.

    It is complete at once where nothing is awaited: the record cannot be read, or holds no money.
    """

    def __init__(
        self,
        dialect: Dialect,
        request: RawRecord,
        results: dict[int, WalletOutcome | Rejected | None],
        items: Sequence[Item] = (),
    ) -> None:
        """Keep what is known; `results` are by the items' indexes, None for an awaited one."""
        self.dialect: Final = dialect
        self.items: Final = items
        """What was read of the record; nothing of one that was rejected as a whole."""
        self._request = request
        self._results = results

    @property
    def rejections(self) -> list[Rejected]:
        """The rejections of items; of a record that cannot be read at all, that one."""
        return [result for result in self._results.values() if isinstance(result, Rejected)]

    @property
    def awaited(self) -> list[int]:
        """Indexes of the items whose outcomes have not come, as `attempt.record_index` counts."""
        return [index for index, result in self._results.items() if result is None]

    @property
    def is_complete(self) -> bool:
        """Whether the result of every item is known."""
        return not self.awaited

    def add(self, outcome: WalletOutcome) -> bool:
        """Take an outcome in; False for one of another record. One that comes again is the same."""
        attempt, request = outcome.attempt, self._request
        place = (attempt.topic, attempt.partition, attempt.offset)
        if place != (request.topic, request.partition, request.offset):
            return False
        if attempt.record_index not in self._results:
            return False
        self._results[attempt.record_index] = outcome
        return True

    def reply(self) -> Reply:
        """Return the response to the provider. Raises ValueError while outcomes are awaited."""
        results = [result for result in self._results.values() if result is not None]
        if len(results) < len(self._results):
            message = f"the outcomes of the items {self.awaited} have not come"
            raise ValueError(message)
        return self.dialect.answer(self._request, results)


class Answers:
    """The answers for every provider of some dialects.

    Make one when a connector starts, not for each request.
    """

    def __init__(self, dialects: Dialects = DIALECTS, keyring: Keyring | None = None) -> None:
        """Keep the dialects; a provider's router is made at its first request.

        `keyring` is the workers' own: with it `begin` knows that a wrong signature gets no outcome.
        """
        self._dialects = dialects
        self._keyring: Keyring = keyring or {}
        self._routers: dict[str, ProviderRouter] = {}

    def begin(self, request: RawRecord) -> PendingAnswer:
        """Return the answer to a record, with the outcomes that it awaits.

        Outcomes are matched by the place that the broker acknowledged: a record that is not
        appended yet may be given, if it has its place before the first of them is added. Raises
        Rejected(UNKNOWN_PROVIDER) for a topic that belongs to none of the dialects.
        """
        provider, versions = self._versions(request)
        router = self._router(provider, versions)
        headers = dict(request.headers)
        try:
            routed = router.read(request, headers)
        except Rejected as error:
            dialect = self._dialect(versions, router.resolve_version(request))
            return PendingAnswer(dialect, request, {0: error})
        reader, _ = routed.fallbacks_by_index.get(0, (routed.reader, None))
        items = reject_broken_groups(routed.items)
        results: dict[int, WalletOutcome | Rejected | None] = {
            index: item if isinstance(item, Rejected) else None
            for index, item in enumerate(items)
            if isinstance(item, Draft | Rejected)
        }
        return PendingAnswer(self._dialect(versions, reader.version), request, results, items)

    def answer(self, request: RawRecord, results: Sequence[WalletOutcome | Rejected]) -> Reply:
        """Return the provider's response; `results` are in the order of the body, all of them.

        See `Dialect.answer`. Raises Rejected(UNKNOWN_PROVIDER) for a topic that belongs to none of
        the dialects.
        """
        provider, versions = self._versions(request)
        if len(versions) == 1:
            return versions[0].dialect.answer(request, results)
        version_read = self._router(provider, versions).resolve_version(request)
        return self._dialect(versions, version_read).answer(request, results)

    def _versions(self, request: RawRecord) -> tuple[str, Sequence[Version]]:
        try:
            provider = provider_of(request.topic)
            return provider, self._dialects.versions(provider)
        except (ValueError, KeyError):
            raise Rejected(
                RejectCode.UNKNOWN_PROVIDER, f"no dialect reads {request.topic!r}"
            ) from None

    def _router(self, provider: str, versions: Sequence[Version]) -> ProviderRouter:
        if provider not in self._routers:
            self._routers[provider] = ProviderRouter(versions, self._keyring.get(provider))
        return self._routers[provider]

    @staticmethod
    def _dialect(versions: Sequence[Version], version_read: str) -> Dialect:
        return next(one for one in versions if one.row.version == version_read).dialect
