""" "Did you mean": every kind of name that is mistyped has its nearest one named."""

from __future__ import annotations

import string

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pitboss.cli.dlt_filter import check_sources, find_case
from pitboss.cli.main import COMMANDS, cli
from pitboss.cli.suggestions import NameChoice, SuggestingGroup
from pitboss.ops.dead_letters import DeadLetterSnapshot
from runtime.dead_letters.letters import CaseFilter, DeadLetterCase
from schemas.errors import UsageError, nearest_name, suggest
from schemas.events import Position
from streams.providers.registry import DIALECTS
from tests.support.command_line import commands


@pytest.fixture
def pitboss(tmp_path, monkeypatch):
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE", "PITBOSS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(cli, arguments)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("ledgr",), "did you mean 'ledger'?"),
        (("providrs", "list"), "did you mean 'providers'?"),
        (("ledger", "histroy", "p"), "did you mean 'history'?"),
        (("ledger", "reconcile", "balance"), "did you mean 'balances'?"),
        (("topics", "lag", "--rol", "x"), "Did you mean --role?"),
        (("providers", "drift", "--provider", "hub-88"), "did you mean 'hub88'?"),
        (("providers", "fuzz", "--provider", "Hub88"), "did you mean 'hub88'?"),
        (("bench", "adapters", "--provider", "play_n_go"), "did you mean 'playngo'?"),
        (("run", "normalize"), "Did you mean 'normalise'?"),
        (("topics", "lag", "--role", "ledgr"), "Did you mean 'ledger'?"),
        (("player", "block", "p", "--source", "kcy"), "Did you mean 'kyc'?"),
        (("dlt", "list", "--state", "opne"), "Did you mean 'open'?"),
        (("ledger", "history", "p", "--kind", "BETS"), "Did you mean 'BET'?"),
        (("ledger", "history", "p", "--kind", "BETT"), "'BETT' is not one of 'BET', 'WIN', "),
        (
            ("ledger", "history", "p", "--sinc", "1d"),
            "No such option: --sinc Did you mean --since?",
        ),
        (("ledger", "history", "p", "--currency", "EUX"), "did you mean 'EUR'?"),
        (("ledger", "adjust", "p", "5", "usdd", "--by", "k", "--reason", "r"), "mean 'USD'?"),
        (("player", "limit", "p", "none", "EUX", "--by", "k", "--reason", "r"), "mean 'EUR'?"),
        (("schemas", "show", "wallet-transacton"), "did you mean 'wallet-transaction'?"),
        (("completion", "bsh"), "Did you mean 'bash'?"),
    ],
)
def test_a_mistyped_name_is_refused_with_the_nearest(pitboss, arguments, meant):
    done = pitboss(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert meant in done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("alerts", "list", "--rule", "d011"), "did you mean 'D01'?"),
        (("ledger", "rounds", "--provider", "hub-88"), "did you mean 'hub88'?"),
        (("dlt", "list", "--code", "bad_amuont"), "did you mean 'BAD_AMOUNT'?"),
        (("dlt", "list", "--topic", "hub8"), "did you mean 'hub88'?"),
        (
            ("topics", "lag", "--topic", "wallet.transaction.v1"),
            "did you mean 'wallet.transactions.v1'?",
        ),
    ],
)
def test_a_filter_over_stored_rows_goes_on_with_a_note(pitboss, arguments, meant):
    done = pitboss(*arguments)
    assert "is not known to this release" in done.stderr
    assert meant in done.stderr
    # It went on: what ends it is that there is no server.
    assert "NO_STACK" in done.stderr


def test_what_resembles_nothing_has_the_known_names_listed(pitboss):
    assert f"commands are {', '.join(COMMANDS)}" in pitboss("xyzzy").stderr
    refused = pitboss("providers", "drift", "--provider", "xyzzy").stderr
    assert ", ".join(sorted(DIALECTS)) in refused


def test_every_group_and_every_choice_suggests():
    for path, command in commands():
        if isinstance(command, click.Group):
            assert isinstance(command, SuggestingGroup), path
        for parameter in command.params:
            if isinstance(parameter.type, click.Choice):
                assert isinstance(parameter.type, NameChoice), (path, parameter.name)


names = st.text(string.ascii_lowercase, min_size=4, max_size=12)


@given(known=st.lists(names, min_size=1, max_size=8), data=st.data())
def test_a_known_name_is_nearest_to_itself_however_it_is_written(known, data):
    name = data.draw(st.sampled_from(known))
    assert nearest_name(name, known) == name
    assert nearest_name(name.upper(), known) == name
    assert nearest_name(f"{name[:2]}-{name[2:]}", known) == name
    assert nearest_name(name, reversed(known)) == name


@given(word=st.text(max_size=20), known=st.lists(names, max_size=8))
def test_a_suggestion_is_a_known_name_or_nothing(word, known):
    found = nearest_name(word, known)
    assert found is None or found in known
    assert suggest(word, known) == ("" if found is None else f": did you mean {found!r}?")


CASE = DeadLetterCase(Position("provider.hub88.raw.v1", 0, 7), (), ())


def test_a_place_on_a_topic_that_has_no_dead_letters_has_the_nearest_topic_named():
    wanted = Position("provider.hub8.raw.v1", 0, 7)
    with pytest.raises(UsageError, match=r"dlt list`; did you mean provider\.hub88\.raw\.v1\?"):
        find_case([CASE], wanted)
    with pytest.raises(UsageError, match=r"did you mean provider\.hub88\.raw\.v1\?"):
        check_sources(DeadLetterSnapshot([CASE]), CaseFilter(sources=frozenset({wanted})))


def test_a_wrong_offset_has_no_topic_suggested():
    with pytest.raises(UsageError) as refused:
        find_case([CASE], Position("provider.hub88.raw.v1", 0, 8))
    assert "did you mean" not in str(refused.value)
