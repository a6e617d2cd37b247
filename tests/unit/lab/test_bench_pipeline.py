"""The pipeline's bench: its traffic, what its peers decide, and what the figures say."""

from __future__ import annotations

import json
import time

import pytest

from lab.bench.machine import Machine
from lab.bench.peers.wallets import PeerBook, identities_needed, identity_of, players_of
from lab.bench.pipeline_figures import (
    BASE,
    OURS,
    PLAIN_FAUST,
    QUIX,
    IdleWorkers,
    PipelineBenchFigures,
    PipelineRun,
)
from lab.bench.pipeline_traffic import (
    KEYRING_PROVIDERS,
    PipelineTraffic,
    _to_consumer_record,
    by_provider,
    load_keys,
    write_chunk,
)
from lab.bench.report import BenchEnvironment, format_table
from schemas import codec
from schemas.events import WalletBalance
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS

MACHINE = Machine("a CPU", 2, 8.0, "Linux 6", "CPython 3.11", {}, 0.5)
EVENTS = 400


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """Two chunks on disk, signed with one set of keys."""
    folder = tmp_path_factory.mktemp("traffic")
    start_ms = time.time_ns() // 1_000_000 - 600_000
    keys = load_keys(folder)
    files = [folder / f"{seed}.chunk" for seed in (1, 2)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("lab.bench.pipeline_traffic._CHUNK_EVENTS", EVENTS)
        counts = [write_chunk(folder, seed, start_ms, files[seed - 1]) for seed in (1, 2)]
    return PipelineTraffic(files, sum(counts)), keys


def events_of(records, keys):
    keyring = {name: keys.keyring()[name] for name in KEYRING_PROVIDERS}
    normaliser = Normaliser(DIALECTS, keyring)
    transactions = []
    for offset, record in enumerate(records):
        [item] = normaliser.normalise(_to_consumer_record(record, offset))
        assert isinstance(item, AcceptedTransaction), item
        transactions.append(item.transaction)
    return transactions


def play_of(traffic, records=None):
    return [record for chunk in traffic.play(records) for record in chunk]


def test_each_record_is_one_valid_signed_event_and_every_bet_can_be_paid(traffic):
    files, keys = traffic
    play = play_of(files)
    assert len(play) == files.records
    assert by_provider(play).keys() == {"hub88", "playngo"}
    events = events_of([*files.opening(), *play], keys)
    assert len({event.event_id for event in events}) == len(events)
    book = PeerBook()
    published = [book.apply(event) for event in events]
    assert None not in published
    assert len(book.added) == len(events)  # no bet was refused
    decode = codec.decoder(WalletBalance)
    assert all(decode(message[1]).available_minor >= 0 for message in published if message)


def test_part_of_the_traffic_has_the_money_of_its_players_only(traffic):
    files, keys = traffic
    part = play_of(files, 50)
    assert len(part) == 50
    assert len(files.opening(50)) < len(files.opening())
    opened = {record.key for record in files.opening(50)}
    assert {record.key for record in part} <= opened
    book = PeerBook()
    assert None not in map(book.apply, events_of([*files.opening(50), *part], keys))
    assert book.balance_columns()[0]


def test_a_peer_books_a_transaction_once_refuses_what_is_not_there_and_takes_a_bet_back(traffic):
    files, keys = traffic
    [pay, *_] = events_of(files.opening(), keys)
    events = events_of(play_of(files), keys)
    rollback = next(e for e in events if any(leg.kind == "ROLLBACK" for leg in e.legs))
    reference = rollback.reference
    assert reference is not None
    bet = next(
        e
        for e in events
        if (e.operation, e.provider_tx_id) == (reference.operation, reference.tx_id)
    )
    assert identity_of(bet) in identities_needed([rollback])
    assert players_of([bet, rollback]) == [bet.player_id]
    book = PeerBook()
    assert book.apply(bet) is not None  # refused: a balance is published, and nothing is booked
    assert book.added == []
    book.fill([], [(bet.player_id, bet.legs[0].currency, 10**9, 4)])
    assert book.apply(bet) is not None
    assert book.apply(bet) is None
    book.apply(rollback)
    [key] = book.changed
    assert book.balances[key] == (10**9, 6)
    assert sum(delta for *_, delta in book.added) == 0
    assert book.apply(pay) is not None


def pipeline_run(events: int, took_s: float, has_servers_cpu: bool = True, **cpu_s: float):
    return PipelineRun(events, took_s, cpu_s, has_servers_cpu)


def figures(has_servers_cpu: bool = True) -> PipelineBenchFigures:
    def run(events: int, took_s: float, **cpu_s: float) -> PipelineRun:
        return pipeline_run(events, took_s, has_servers_cpu, **cpu_s)

    runs = {
        OURS: [run(1_000, seconds, ledger=0.04, broker=0.01) for seconds in (1.0, 4.0, 2.0)],
        BASE: [run(1_000, 2.0, ledger=0.1, broker=0.1)] * 3,
        PLAIN_FAUST: [run(100, 2.0, faust=0.1)] * 3,
    }
    idle = IdleWorkers({"ledger": 0.02, "drift": 0.02, "broker": 0.5}, {"ledger": 90, "drift": 60})
    environment = BenchEnvironment(MACHINE, "abc1234", {})
    return PipelineBenchFigures([OURS, BASE, PLAIN_FAUST], runs, idle, 1_050, environment)


def test_the_object_has_every_key_and_null_for_what_did_not_run():
    output = json.loads(json.dumps(figures().as_json()))
    assert output["settled_per_s"] == 500
    assert output["cpu_s_per_million"] == {"total": 50, "ledger": 40, "broker": 10}
    assert output["ratio_cpu_base"] == 0.25
    assert output["ratio_plain_faust"] == 10
    assert output["ratio_plain_faust_spread"] == {"median": 10, "lowest": 5, "highest": 20}
    assert output["ratio_quix"] is None
    assert output["idle"]["cpu_share"] == 0.04
    assert output["idle"]["rss_mb"] == 150
    assert output["idle"]["holds"] is True
    assert output["peers"][BASE]["cpu_s_per_million"]["total"] == 200
    assert QUIX not in output["peers"]
    assert (output["pairs"], output["records"]) == (3, 1_050)
    result = figures()
    text = format_table("pipeline", result.rows(), result.environment)
    assert "CPU, ours to base" in text
    assert "4.0%" in text


def test_cpu_is_not_compared_where_the_servers_are_of_another_machine():
    output = figures(has_servers_cpu=False).as_json()
    assert output["ratio_cpu_base"] is None
    assert output["cpu_s_per_million"]["total"] is None
    assert output["ratio_plain_faust"] == 10


def test_idle_workers_that_take_too_much_do_not_hold():
    assert not IdleWorkers({"ledger": 0.06}, {"ledger": 90}).holds
    assert not IdleWorkers({"ledger": 0.01}, {"ledger": 451}).holds
