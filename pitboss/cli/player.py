"""`pitboss player`: a player's balances, blocks, holds and limits."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
import msgspec

from ledger_sink.queries.people import PlayerView, read_player
from ledger_sink.rules.journal import FREE, Wallet
from pitboss.cli import screen
from pitboss.cli.ledger_queries import UnknownPlayer
from pitboss.cli.operator_commands import (
    format_time,
    json_option,
    operator_options,
    parse_minor_units,
    query_ledger,
    submit_and_print,
)
from pitboss.cli.suggestions import CURRENCY, NameChoice, SuggestingGroup
from schemas.money import exponent_of, format_minor

_source = click.option(
    "--source",
    type=NameChoice(["operator", "alert", "kyc"]),
    default="operator",
    show_default=True,
    help="The source of the block: it can only release its own.",
)
_alert = click.option(
    "--alert", "alert_id", help="The alert that led to it; its source is then `alert`."
)


@click.group(cls=SuggestingGroup)
def player() -> None:
    """Show, block, hold or limit a player.

    Each change is an event of the log.
    """


@player.command()
@click.argument("player_id", metavar="PLAYER")
@json_option
def show(*, player_id: str, as_json: bool) -> None:
    """Show a player's wallets, blocks, holds and limits.

    Exit code 1 if the ledger knows nothing of the player.
    """
    found = query_ledger(partial(read_player, player_id=player_id))
    if not found.wallets and not found.state.event_id:
        raise UnknownPlayer(player_id, "no wallet and no state")
    if as_json:
        click.echo(msgspec.json.encode(_as_json(found)))
        return
    table = screen.table(
        "currency", "cash", "bonus", "held", "to be wagered", "largest bet", "version"
    )
    limits, wagering = found.state.limits, found.state.wagering
    for wallet in _with_wallets_of_limits(found):
        left, most = (
            wagering.get(wallet.currency, (0, 0))[0],
            limits.get(wallet.currency, (None, 0))[0],
        )
        texts = [
            format_minor(minor, wallet.scale) for minor in (wallet.cash_minor, wallet.bonus_minor)
        ]
        table.add_row(
            wallet.currency,
            *texts,
            format_minor(wallet.held_minor, wallet.scale),
            format_minor(left, wallet.scale) if left else "",
            "" if most is None else format_minor(most, wallet.scale),
            str(wallet.version),
        )
    screen.show(table)
    for source, (level, at) in sorted(found.state.standings.items()):
        if level != FREE:
            click.echo(f"{level.lower()} by {source} since {format_time(at)}")


def _with_wallets_of_limits(found: PlayerView) -> list[Wallet]:
    """Return the wallets, and an empty one for each currency that has only a limit."""
    there = {wallet.currency for wallet in found.wallets}
    missing = sorted(currency for currency in found.state.limits if currency not in there)
    return found.wallets + [
        Wallet(found.player_id, currency, exponent_of(currency)) for currency in missing
    ]


def _as_json(found: PlayerView) -> dict[str, Any]:
    state = found.state
    return {
        "player_id": found.player_id,
        "wallets": [
            {
                name: getattr(wallet, name)
                for name in (
                    "currency",
                    "scale",
                    "cash_minor",
                    "bonus_minor",
                    "held_minor",
                    "version",
                )
            }
            for wallet in found.wallets
        ],
        "is_blocked": state.is_blocked,
        "is_held": state.is_held,
        "standings": {
            source: {"level": level, "at": at} for source, (level, at) in state.standings.items()
        },
        "limits": {
            currency: {"bet_minor": most, "at": at} for currency, (most, at) in state.limits.items()
        },
        "wagering": {
            currency: {"left_minor": left} for currency, (left, _) in state.wagering.items()
        },
    }


def _state(
    operation: str, player_id: str, actor: str, reason: str, source: str, alert_id: str | None
) -> dict[str, Any]:
    event = {"operation": operation, "player_id": player_id, "actor": actor, "reason": reason}
    return event | ({"alert_id": alert_id} if alert_id is not None else {"source": source})


@player.command()
@click.argument("player_id", metavar="PLAYER")
@_source
@_alert
@operator_options
def block(
    *, player_id: str, actor: str, reason: str, source: str, alert_id: str | None, **how: Any
) -> None:
    """Stop bets and withdrawals. Wins and rollbacks are booked all the same."""
    submit_and_print(_state("player.blocked", player_id, actor, reason, source, alert_id), **how)


@player.command()
@click.argument("player_id", metavar="PLAYER")
@_source
@_alert
@operator_options
def hold(
    *, player_id: str, actor: str, reason: str, source: str, alert_id: str | None, **how: Any
) -> None:
    """Stop withdrawals only."""
    submit_and_print(_state("player.held", player_id, actor, reason, source, alert_id), **how)


@player.command()
@click.argument("player_id", metavar="PLAYER")
@_source
@_alert
@operator_options
def release(
    *, player_id: str, actor: str, reason: str, source: str, alert_id: str | None, **how: Any
) -> None:
    """Release a block or a hold of one source; those of others stay."""
    submit_and_print(_state("player.released", player_id, actor, reason, source, alert_id), **how)


@player.command()
@click.argument("player_id", metavar="PLAYER")
@click.argument("amount")
@click.argument("currency", type=CURRENCY)
@operator_options
def limit(
    *, player_id: str, amount: str, currency: str, actor: str, reason: str, **how: Any
) -> None:
    """Set the largest single bet in CURRENCY; AMOUNT `none` removes the limit."""
    event = {"player_id": player_id, "currency": currency, "actor": actor, "reason": reason}
    if amount == "none":
        submit_and_print({"operation": "player.unlimited", **event}, **how)
        return
    parse_minor_units(amount, currency)
    submit_and_print({"operation": "player.limited", "amount": amount, **event}, **how)
