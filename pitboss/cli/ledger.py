"""`pitboss ledger`: the ledger's database."""

from __future__ import annotations

from typing import Final

import click

from pitboss.cli.lazy_group import CommandTable, LazyGroup

COMMANDS: Final[CommandTable] = {
    "balance": (
        "pitboss.cli.ledger_balance:balance",
        "Show a player's wallets, now or when the log was booked up to a time or an offset.",
    ),
    "history": (
        "pitboss.cli.ledger_views:history_command",
        "List a wallet's movements, newest first, with the balances after each and its source.",
    ),
    "entry": (
        "pitboss.cli.ledger_entry:entry",
        "Show every decision about an event, its transfers, what closed it, and its repeats.",
    ),
    "round": (
        "pitboss.cli.ledger_views:round_command",
        "List the events of a round and their outcomes.",
    ),
    "report": (
        "pitboss.cli.ledger_report:report",
        "Report bets, wins, jackpots, bonus cost and gross gaming revenue.",
    ),
    "reconcile": (
        "pitboss.cli.ledger_reconcile:reconcile",
        "Compare the ledger with its topics, and with a provider's statement.",
    ),
    "months": (
        "pitboss.cli.ledger_months:months_group",
        "List, create and move the monthly partitions of the transfers.",
    ),
    "seal": (
        "pitboss.cli.ledger_audit:seal",
        "Seal the booked rows; publish a signed checkpoint to audit.checkpoints.v1 and to a file.",
    ),
    "verify": (
        "pitboss.cli.ledger_audit:verify",
        (
            "Check seals, checkpoints, sums, versions and positions; name each partition's first"
            " bad row."
        ),
    ),
    "adjust": (
        "pitboss.cli.ledger_corrections:adjust",
        "Add AMOUNT to a player's cash, or subtract it if it is negative.",
    ),
    "approve": (
        "pitboss.cli.ledger_corrections:approve",
        "Approve another person's proposal; `pitboss ledger proposals` lists them.",
    ),
    "proposals": (
        "pitboss.cli.ledger_corrections:proposals",
        "List what waits for a second person, oldest first: corrections, suspense, limits.",
    ),
    "debts": (
        "pitboss.cli.ledger_corrections:debts",
        "List wallets with a negative account: chargebacks, corrections, rollbacks of spent wins.",
    ),
    "limit": (
        "pitboss.cli.ledger_limits:limit",
        "Show and set what one person may move alone, by currency.",
    ),
    "open": (
        "pitboss.cli.ledger_open:open_command",
        "List what waits for a person: unresolved, suspense, quarantine, parked, barriers.",
    ),
    "answer": (
        "pitboss.cli.ledger_open:answer",
        "Close what waits for a person and holds no money: they have dealt with it.",
    ),
    "suspense": (
        "pitboss.cli.ledger_open:suspense",
        "Move money out of suspense: to its player, or back to the payment provider.",
    ),
    "quarantine": (
        "pitboss.cli.ledger_quarantine:quarantine",
        "Let the ledger go on behind a record of the log that it cannot book.",
    ),
    "rounds": (
        "pitboss.cli.ledger_rounds:rounds",
        "List rounds with a bet that nothing has closed, oldest first.",
    ),
    "sweep": (
        "pitboss.cli.ledger_rounds:sweep",
        "Propose an end for rounds that are open for longer than their provider's policy allows.",
    ),
    "recover": (
        "pitboss.cli.ledger_recover:recover",
        "Book again what a database lacks that was restored to an earlier moment.",
    ),
    "rebind": (
        "pitboss.cli.ledger_rebind:rebind_command",
        "Bind the ledger to a log on another cluster: a mirror of its own, or an empty one.",
    ),
    "migrate": (
        "pitboss.cli.ledger_migrate:migrate_group",
        "List and apply the numbered SQL files, each once, in order.",
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def ledger() -> None:
    """Query, check and correct the ledger."""
