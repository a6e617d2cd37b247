"""`pitboss providers explain`: events, decisions and balances of messages in files, offline."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import orjson

from pitboss.cli import screen
from pitboss.ops.message_files import read_bodies
from pitboss.setting_files import read_keys_file
from replay.explain import ExplainedEvent, MessageExplanation, explain
from schemas.events import Leg, MarketSettlement, PlayerEvent, Reference
from schemas.money import EXPONENTS

_ID_CHARACTERS = 12
"""Of an event id in the table: enough to see which events are one."""


@click.command("explain")
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    metavar="PATH...",
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check signatures with this keys file, of the form of PITBOSS_KEYS_FILE.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def explain_command(paths: tuple[Path, ...], keys_file: Path | None, *, as_json: bool) -> None:
    """Show what messages mean: events, legs, identities, decisions and the balances that follow.

    Needs no servers: the files go through the production normaliser, player resolution and posting
    rules, in their order, onto an empty ledger. A PATH is a body, or a folder of bodies that are
    read in the order of their names: NN.PROVIDER.EXT, as in 01.hub88.json. Headers stand beside a
    body, in NN.PROVIDER.EXT.headers.json, as a JSON object of texts.

    Signatures count as valid without --keys; with it the verdict is shown, and --json has it as
    `signature`.
    """
    keyring = read_keys_file(keys_file, "--keys")
    bodies = read_bodies(paths, time.time_ns() // 1_000_000)
    explanation = explain(bodies, keyring)
    if as_json:
        described = describe(explanation, with_signatures=keys_file is not None)
        click.echo(orjson.dumps(described))
    else:
        _show(explanation)


def describe(
    explanation: MessageExplanation, *, with_signatures: bool = False
) -> dict[str, list[dict[str, Any]] | dict[str, dict[str, str]]]:
    """Return an explanation as JSON values; amounts are decimal texts in major units."""
    described: dict[str, list[dict[str, Any]]] = {
        "events": [_describe_event(row) for row in explanation.events],
        "rejected": [
            {"file": file, "code": item.code.value, "detail": item.detail}
            for file, item in explanation.rejected
        ],
        "settlements": [_describe_settlement(*row) for row in explanation.settlements],
        "player_events": [_describe_fact(*row) for row in explanation.player_events],
    }
    if with_signatures:
        for name, verdicts in _verdicts(explanation).items():
            for row, verdict in zip(described[name], verdicts, strict=True):
                row["signature"] = verdict
    return {**described, "balances": explanation.balances(), "house": explanation.house()}


def _verdicts(explanation: MessageExplanation) -> dict[str, list[str]]:
    return {
        "events": [row.event.signature for row in explanation.events],
        "settlements": [event.signature for _, event in explanation.settlements],
        "player_events": [event.signature for _, event in explanation.player_events],
    }


def _describe_event(row: ExplainedEvent) -> dict[str, Any]:
    event, answer = row.event, row.answer
    return {
        "file": row.file,
        "operation": event.operation,
        "provider_tx_id": event.provider_tx_id,
        "event_id": event.event_id,
        "legs": [_describe_leg(leg) for leg in event.legs],
        "player_id": event.player_id,
        "outcome": None if answer is None else answer.outcome,
        "reason": None if answer is None else answer.reason,
    }


def _describe_leg(leg: Leg) -> dict[str, Any]:
    return {
        "kind": leg.kind,
        "amount": _amount_text(leg),
        "currency": leg.currency,
        "is_free": leg.is_free,
        "campaign_id": leg.campaign_id,
    }


def _amount_text(leg: Leg) -> str | None:
    """Return the leg's amount with the decimals of its currency; as it came where it has more."""
    if leg.amount is None:
        return None
    decimals = EXPONENTS.get(leg.currency or "", 0)
    amount = Decimal(leg.amount.unscaled).scaleb(-leg.amount.scale).normalize()
    needed = -int(amount.as_tuple().exponent)
    return f"{amount:.{max(decimals, needed)}f}"


def _describe_settlement(file: str, event: MarketSettlement) -> dict[str, Any]:
    return {
        "file": file,
        "event_id": event.event_id,
        "market_id": event.market_id,
        "specifiers": event.specifiers,
        "outcome_id": event.outcome_id,
        "kind": event.action,
    }


def _describe_fact(file: str, event: PlayerEvent) -> dict[str, Any]:
    return {
        "file": file,
        "operation": event.operation,
        "provider_event_id": event.provider_event_id,
        "event_id": event.event_id,
        "player_id": event.player_id,
        "type": event.type,
        "attributes": event.attributes,
    }


def _show(explanation: MessageExplanation) -> None:
    _show_events(explanation)
    if explanation.rejected:
        rejected = screen.table("file", "rejected", "detail")
        for file, item in explanation.rejected:
            rejected.add_row(file, item.code.value, item.detail)
        screen.show(rejected)
    if explanation.settlements:
        settlements = screen.table("file", "market", "specifiers", "outcome", "kind", "signature")
        for file, event in explanation.settlements:
            market = f"{event.match_id} {event.market_id}"
            cells = (market, event.specifiers, event.outcome_id or "", event.action)
            settlements.add_row(file, *cells, event.signature)
        screen.show(settlements)
    if explanation.player_events:
        facts = screen.table("file", "operation", "id", "player", "attributes", "signature")
        for file, fact in explanation.player_events:
            attributes = ", ".join(f"{name}={text}" for name, text in fact.attributes.items())
            cells = (fact.operation, fact.provider_event_id, fact.player_id, attributes)
            facts.add_row(file, *cells, fact.signature)
        screen.show(facts)
    _show_money(explanation)


def _show_events(explanation: MessageExplanation) -> None:
    if not explanation.events:
        return
    identity = ("file", "operation", "transaction", "event")
    events = screen.table(*identity, "legs", "refers to", "player", "outcome", "signature")
    for row in explanation.events:
        event, answer = row.event, row.answer
        legs = "\n".join(_leg_text(leg) for leg in event.legs)
        outcome = "" if answer is None else f"{answer.outcome} {answer.reason}".rstrip()
        event_id = event.event_id[:_ID_CHARACTERS]
        ids = (event.operation, event.provider_tx_id, event_id)
        player_id, reference = event.player_id or "", _reference_text(event.reference)
        events.add_row(row.file, *ids, legs, reference, player_id, outcome, event.signature)
    screen.show(events)


def _reference_text(reference: Reference | None) -> str:
    return "" if reference is None else f"{reference.operation} {reference.tx_id}"


def _leg_text(leg: Leg) -> str:
    free = "free" if leg.is_free else None
    parts = (leg.kind, _amount_text(leg), leg.currency, free, leg.campaign_id)
    return " ".join(part for part in parts if part)


def _show_money(explanation: MessageExplanation) -> None:
    for owner, totals in (
        ("player", explanation.balances()),
        ("house account", explanation.house()),
    ):
        if not totals:
            continue
        shown = screen.table(owner, "currency", "balance")
        shown.columns[2].justify = "right"
        for name, by_currency in totals.items():
            for currency, text in by_currency.items():
                shown.add_row(name, currency, text)
        screen.show(shown)
