"""A sender who cannot sign holds no player: no rejection under another key stops one (see docs/howto/dead-letters.md)."""

from __future__ import annotations

from random import Random

from msgspec.structs import replace

from lab.conformance.examples.fill import Fill, record
from lab.conformance.mutation import mutate
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.parking import holding_code
from streams.providers.registry import by_provider
from tests.contract.test_adapters import ADAPTERS, every_adapter, other_keys, provider, subject

MUTANTS = 20


@every_adapter
def test_what_a_stranger_sends_in_a_players_name_holds_no_player(name):
    if not subject(name).examples.keys:
        return  # nothing is signed: such a provider cannot be named in PITBOSS_PARK
    stranger = Normaliser(
        by_provider([ADAPTERS[name]]), {provider(name): other_keys(ADAPTERS[name])}
    )
    random = Random(7)
    for seed in range(5):
        fill = Fill(seed)
        examples = subject(name).make_examples(fill)
        for example in examples:
            for _ in range(MUTANTS):
                sent = replace(
                    mutate(example, random.choice(examples), random), key=fill.player.encode()
                )
                rejected = stranger.normalise(raw := record(sent, provider(name)))
                assert holding_code(raw, rejected) is None, (sent.name, sent.value, rejected)


def test_where_nothing_is_signed_the_same_bytes_would_make_players_wait():
    """What the refusal to park a provider without a key is for; and the test above could fail."""
    random, stopped = Random(7), 0
    fill = Fill(1)
    examples = subject("hub88-1").make_examples(fill)
    for example in examples * MUTANTS:
        sent = record(replace(mutate(example, example, random), key=fill.player.encode()), "hub88")
        stopped += holding_code(sent, subject("hub88-1").unkeyed.normalise(sent)) is not None
    assert stopped
