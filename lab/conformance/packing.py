"""The property over all adapters: facts in another packing book the same money, mirrors give back.

A story is written as it happened, a message a fact, and again in another packing: facts joined in
one message, split, sent again beside others, re-ordered, as another node or API version of the
provider writes them, with placeholders in optional places. Both are read and decided as in
production (`replay.explain`); what a provider would send again because it was refused is sent again
at the end. Balances, accounts of the house, settlements and facts about players must be the same.

A mirror (a refund that failed, a chargeback that was won, a settlement that was rolled back) must
bring every balance back to where it was before what it mirrors.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

from lab.conformance.adapters import AdapterUnderTest
from lab.conformance.intents import Intent, Verb
from lab.conformance.placeholders import add_placeholders
from lab.conformance.stories import START_MS, Mirror, Story, make_story
from lab.conformance.writers import house
from lab.conformance.writers.find import writer_of
from lab.conformance.writers.writer import Sending, Writer, connector_headers
from replay.explain import MessageExplanation, RawBody, explain
from schemas.errors import UsageError
from schemas.topics import raw_topic
from streams.providers.registry import DIALECTS, Dialects

_READ_AT_MS: Final = START_MS + 600_000
_PASSES_MAX: Final = 4
"""Passes over what was refused: a win waits for its bet, and that one for nothing."""

_FAILURES_KEPT: Final = 20
_MESSAGES_PER_STORY: Final = 200

CountStories = Callable[[int], None]
"""Called with the number of stories told."""


def stories_for(messages: int, adapters: int) -> int:
    """Return how many stories each adapter tells beside so many fuzzed messages in all."""
    return max(1, messages // (_MESSAGES_PER_STORY * max(1, adapters)))


class Packing(NamedTuple):
    """How a story is told again; `False` everywhere is a message a fact, in order."""

    is_joined: bool = False
    overlaps: bool = False
    is_reordered: bool = False
    is_restyled: bool = False
    has_other_versions: bool = False
    has_placeholders: bool = False

    def __str__(self) -> str:
        names = [name.partition("_")[2] or name for name, is_on in self._asdict().items() if is_on]
        return ", ".join(names) or "split"


class Draw(NamedTuple):
    """One message to be written: its facts, and whose sending it is."""

    facts: tuple[Intent, ...]
    is_again: bool = False


@dataclass
class PackingTally:
    """Stories of one adapter that were told again, and mirrors, each with those that differ."""

    repacked: int = 0
    repacked_differences: int = 0
    mirrored: int = 0
    mirrored_differences: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing differed."""
        return not (self.repacked_differences or self.mirrored_differences)

    def as_json(self) -> dict[str, int]:
        """Return the counts by name."""
        return dict(vars(self))


class PackingFailure(NamedTuple):
    """A story that books other money in another packing, or a mirror that does not give back."""

    adapter: str
    seed: str
    what: str
    detail: str


@dataclass
class PackingReport:
    """Counts by adapter, and the first failures."""

    by_adapter: dict[str, PackingTally] = field(default_factory=dict)
    failures: list[PackingFailure] = field(default_factory=list)

    @property
    def total(self) -> PackingTally:
        """All adapters together."""
        tallies = self.by_adapter.values()
        names = PackingTally().as_json()
        return PackingTally(
            **{name: sum(getattr(each, name) for each in tallies) for name in names}
        )


def check_packings(
    adapters: Sequence[AdapterUnderTest],
    seed: int,
    stories: int,
    progress: CountStories | None = None,
) -> PackingReport:
    """Tell `stories` stories of each adapter again, and try their mirrors; raises nothing.

    An adapter without a writer counts as one that differs.
    """
    report = PackingReport({adapter.name: PackingTally() for adapter in adapters})
    for done, adapter in enumerate(adapters):
        try:
            teller = _Teller(adapter, _dialects_of(adapter))
        except UsageError as error:
            report.by_adapter[adapter.name].repacked_differences += 1
            _keep(report, adapter, "", "no stories", str(error))
            continue
        for number in range(stories):
            name = f"{seed}/packing/{adapter.name}/{number}"
            try:
                _check_story(teller, name, report)
            except Exception:  # noqa: BLE001 - that nothing may raise is what is tested
                report.by_adapter[adapter.name].repacked_differences += 1
                _keep(report, adapter, name, "raised", traceback.format_exc(limit=-3))
        if progress is not None:
            progress((done + 1) * stories)
    return report


def _check_story(teller: _Teller, name: str, report: PackingReport) -> None:
    rng, adapter = Random(name), teller.adapter
    story = make_story(teller.writer, adapter.examples.currencies, rng)
    packing = _draw_packing(rng)
    tally = report.by_adapter[adapter.name]
    tally.repacked += 1
    plain = teller.tell(story.opening, [Draw((fact,)) for fact in story.facts], Packing(), rng)
    if plain.explained.rejected:
        tally.repacked_differences += 1
        _keep(report, adapter, name, "rejected", "; ".join(_rejections(plain.explained)))
        return
    again = teller.tell(story.opening, teller.pack(story, packing, rng), packing, rng)
    if difference := _differ(plain.explained, again.explained):
        tally.repacked_differences += 1
        _keep(report, adapter, name, _describe(packing, again), difference)
    for mirror in story.mirrors:
        tally.mirrored += 1
        if difference := _check_mirror(teller, story, mirror, rng):
            tally.mirrored_differences += 1
            what = f"{mirror.undo.operation} of {mirror.act.operation}"
            _keep(report, adapter, name, what, difference)


def _dialects_of(adapter: AdapterUnderTest) -> Dialects:
    """Return all versions of the adapter's provider, and the house's, which open deposits."""
    providers = {adapter.dialect.provider: adapter.among, house.WRITER.provider: DIALECTS}
    found = [version for name, among in providers.items() for version in among.versions(name)]
    made = {version.row.name: version.dialect for version in found}
    rows = [version.row for version in found]
    return Dialects(lambda: rows, lambda row: made[row.name])


def _draw_packing(rng: Random) -> Packing:
    return Packing(*(rng.random() < 0.5 for _ in Packing._fields))


def _describe(packing: Packing, telling: Telling) -> str:
    put = f" ({' '.join(telling.placeholders)})" if telling.placeholders else ""
    return f"{packing}{put}"


def _keep(
    report: PackingReport, adapter: AdapterUnderTest, seed: str, what: str, detail: str
) -> None:
    if len(report.failures) < _FAILURES_KEPT:
        report.failures.append(PackingFailure(adapter.name, seed, what, detail))


class Telling(NamedTuple):
    """What came of a story in one packing, and the placeholders that it was told with."""

    explained: MessageExplanation
    placeholders: tuple[str, ...]


class _Teller:
    """Writes stories of one adapter and has them read and decided, its dialect among others."""

    def __init__(self, adapter: AdapterUnderTest, dialects: Dialects) -> None:
        self.adapter = adapter
        self._dialects = dialects
        self.writer = writer_of(adapter.dialect)
        self._others = [self.writer, *_other_writers(adapter, self.writer)]

    def pack(self, story: Story, packing: Packing, rng: Random) -> list[Draw]:
        """Return the story's facts as messages of this packing."""
        facts = list(story.facts)
        if packing.is_reordered:
            facts = _reorder(facts, rng)
        draws = _join(facts, self.writer.batch_max if packing.is_joined else 1, rng)
        if packing.overlaps:
            for fact in rng.sample(facts, max(1, len(facts) // 3)):
                first = next(n for n, draw in enumerate(draws) if fact in draw.facts)
                at = rng.randint(first + 1, len(draws))
                sent = [each for each in facts if each != fact and _was_sent(each, draws[:at])]
                beside = rng.sample(sent, rng.randint(0, min(len(sent), self.writer.batch_max - 1)))
                draws.insert(at, Draw((fact, *beside), is_again=True))
        return draws

    def tell(
        self, opening: Sequence[Intent], draws: Sequence[Draw], packing: Packing, rng: Random
    ) -> Telling:
        """Write the messages, have them decided, and send again what was refused."""
        bodies = [self._write_opening(intent, number) for number, intent in enumerate(opening)]
        places: list[str] = []
        for draw in draws:
            style = Random(rng.random()) if packing.is_restyled or draw.is_again else None
            writer = rng.choice(self._others) if packing.has_other_versions else self.writer
            body = self._write(writer, draw.facts, len(bodies), style, rng)
            if packing.has_placeholders:
                operation, headers = draw.facts[0].operation, dict(body.headers)
                spoilt, found = add_placeholders(
                    self.adapter.dialect, operation, body.value or b"", headers, rng
                )
                places += found
                body = _with_value(body, spoilt)
            bodies.append(body)
        return Telling(self._decide(bodies), tuple(places))

    def _decide(self, bodies: list[RawBody]) -> MessageExplanation:
        """Return what the bodies mean once nothing more is gained by sending refused ones again."""
        explained = explain(bodies, dialects=self._dialects)
        for _ in range(_PASSES_MAX):
            refused = {
                row.file
                for row in explained.events
                if row.answer is not None and row.answer.outcome.startswith("REFUSED_")
            }
            again = [body for body in bodies if body.file in refused]
            if not again:
                break
            more = [*bodies, *(_at(body, len(bodies) + n) for n, body in enumerate(again))]
            decided = explain(more, dialects=self._dialects)
            if not _differ(explained, decided):
                break
            bodies, explained = more, decided
        return explained

    def _write_opening(self, intent: Intent, number: int) -> RawBody:
        return self._write(house.WRITER, (intent,), number, None, Random(number))

    def _write(
        self,
        writer: Writer,
        facts: tuple[Intent, ...],
        number: int,
        style: Random | None,
        rng: Random,
    ) -> RawBody:
        at_ms = max(fact.at_ms for fact in facts) + 1
        message = writer.write(facts, Sending(at_ms, rng.getrandbits(128), style), None)
        headers = connector_headers(message, at_ms, "stories", facts[0].brand, "")
        topic = raw_topic(writer.provider)
        return RawBody(str(number), topic, message.body, list(headers), number, _READ_AT_MS)


def _other_writers(adapter: AdapterUnderTest, own: Writer) -> list[Writer]:
    """Return the writers of the provider's other versions that say the same."""
    found = []
    for version in adapter.among.versions(adapter.dialect.provider):
        try:
            other = writer_of(version.dialect)
        except UsageError:
            continue
        if other is not own and other.says == own.says:
            found.append(other)
    return found


def _reorder(facts: list[Intent], rng: Random) -> list[Intent]:
    """Return the facts in another order; those of one player of the house stay in theirs.

    The house knows what it has done, and its topic keeps the order of a player's records.
    """
    order = list(range(len(facts)))
    rng.shuffle(order)
    if facts and facts[0].provider == house.WRITER.provider:
        places: dict[str | None, list[int]] = {}
        for index in order:
            places.setdefault(facts[index].player, []).append(index)
        queues = {player: iter(sorted(each)) for player, each in places.items()}
        order = [next(queues[facts[index].player]) for index in order]
    return [facts[index] for index in order]


def _join(facts: Sequence[Intent], batch_max: int, rng: Random) -> list[Draw]:
    draws, at = [], 0
    while at < len(facts):
        size = rng.randint(1, batch_max)
        draws.append(Draw(tuple(facts[at : at + size])))
        at += size
    return draws


def _was_sent(fact: Intent, draws: Iterable[Draw]) -> bool:
    return any(fact in draw.facts for draw in draws)


def _with_value(body: RawBody, value: bytes) -> RawBody:
    return RawBody(body.file, body.topic, value, body.headers, body.offset, body.timestamp)


def _at(body: RawBody, offset: int) -> RawBody:
    return RawBody(str(offset), body.topic, body.value, body.headers, offset, body.timestamp)


def _check_mirror(teller: _Teller, story: Story, mirror: Mirror, rng: Random) -> str:
    """Return how balances differ from those before the act, also where the mirror comes twice."""
    basis = [Draw((fact,)) for fact in mirror.basis]
    packing = _draw_packing(rng)
    before = teller.tell(story.opening, basis, Packing(), rng)
    draws = [*basis, Draw((mirror.act,)), Draw((mirror.undo,))]
    if packing.overlaps:
        draws += [Draw((mirror.undo,), is_again=True), Draw((mirror.act,), is_again=True)]
    if packing.is_reordered and mirror.act.verb in (Verb.BET, Verb.SPIN):
        draws = [*basis, Draw((mirror.undo,)), Draw((mirror.act,))]
    after = teller.tell(story.opening, draws, packing, rng)
    return _differ_in_money(before.explained, after.explained) or _still_settled(after.explained)


def _differ(one: MessageExplanation, other: MessageExplanation) -> str:
    """Return how two explanations differ in money, in what was read beside it, or in rejections."""
    if difference := _differ_in_money(one, other):
        return difference
    for name, first, second in (
        ("settlements", _settlement_ids(one), _settlement_ids(other)),
        ("player events", _fact_ids(one), _fact_ids(other)),
        ("rejected", set(_rejections(one)), set(_rejections(other))),
    ):
        if first != second:
            return f"{name}: {sorted(first - second)[:5]} became {sorted(second - first)[:5]}"
    return ""


def _differ_in_money(one: MessageExplanation, other: MessageExplanation) -> str:
    first, second = _money(one), _money(other)
    changed = sorted(key for key in first.keys() | second if first.get(key) != second.get(key))
    return "; ".join(f"{key}: {first.get(key)} became {second.get(key)}" for key in changed[:5])


def _money(explained: MessageExplanation) -> dict[str, str]:
    """Return all balances that are not zero, by owner and currency; purses count by themselves."""
    totals = {
        f"{player} {currency}": f"{wallet.cash_minor} + {wallet.bonus_minor} + {wallet.held_minor}"
        for (player, currency), wallet in explained.book.wallets.items()
        if wallet.cash_minor or wallet.bonus_minor or wallet.held_minor
    }
    for account, by_currency in explained.house().items():
        totals |= {
            f"{account} {currency}": text
            for currency, text in by_currency.items()
            if text.strip("-0.")
        }
    return totals


def _settlement_ids(explained: MessageExplanation) -> set[str]:
    return {event.event_id for _, event in explained.settlements}


def _fact_ids(explained: MessageExplanation) -> set[str]:
    return {event.event_id for _, event in explained.player_events}


def _rejections(explained: MessageExplanation) -> list[str]:
    return [f"{item.code.value}: {item.detail}" for _, item in explained.rejected]


def _still_settled(explained: MessageExplanation) -> str:
    """Return the markets that are settled although their settlement was rolled back."""
    settled: dict[tuple[str, str, str], str] = {}
    for _, event in sorted(explained.settlements, key=lambda row: row[1].provider_at or 0):
        settled[event.match_id, event.market_id, event.specifiers] = event.action
    return ", ".join(
        f"{market} is settled" for market, action in settled.items() if action == "SETTLED"
    )
