"""The same payments in any packing book the same money: files joined, split, overlapping, in any order and version."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from replay.explain import RawBody, explain
from tests.support.camt_files import HEAD, VERSIONS, Packing, print_detail, print_entry, print_file
from tests.support.dialect_records import APPENDED_AT
from tests.support.examples import examples

WORDS = ("", "NONREF", "NOTPROVIDED", "none", "N/A", "-", "0", "not provided", "XXXX")
ENVELOPES = ("{}", f"<Envelope>{HEAD}{{}}</Envelope>")


class Payment(NamedTuple):
    """One payment: the deposit that it names, or none, and cents."""

    deposit: int | None
    cents: int


class Booking(NamedTuple):
    """An entry of the account, with the bank's reference, and its payments."""

    number: int
    payments: tuple[Payment, ...]
    is_return: bool


PAYMENTS = st.builds(Payment, st.none() | st.integers(0, 3), st.integers(1, 9_999))
BOOKINGS = st.lists(
    st.tuples(st.lists(PAYMENTS, min_size=1, max_size=4), st.booleans()), min_size=1, max_size=5
)


def print_cents(cents: int) -> str:
    return f"{Decimal(cents).scaleb(-2):f}"


def print_booking(
    booking: Booking,
    version: str,
    data: st.DataObject,
    *,
    as_sum: bool = False,
    is_unclear: bool = False,
) -> str:
    """The entry in one version, with placeholders where a reference may be missing.

    `is_unclear`: one of its details is missing or has another amount, or it shows by nothing that it is several payments.
    """
    single = len(booking.payments) == 1
    details = []
    is_short = is_unclear and data.draw(st.booleans())
    for at, payment in enumerate(booking.payments):
        word = data.draw(st.sampled_from(WORDS))
        named = "" if payment.deposit is None else f"dep-{payment.deposit}x"
        refs = "".join(f"<{name}>{word}</{name}>" for name in ("InstrId", "PmtInfId") if word)
        own = f"<TxId>T{booking.number}-{at}</TxId>"
        # The payer wrote it in one place, whichever message tells it.
        in_text = bool(named) and payment.cents % 2 == 1
        details.append(
            print_detail(
                end_to_end=word if in_text or not named else named,
                lines=(f"for {named}, thanks",) if in_text else (),
                amount=None
                if as_sum or (single and data.draw(st.booleans()))
                else print_cents(payment.cents + (is_unclear and at == 0)),
                refs=refs + own,
                more="<RtrInf/>" if booking.is_return else "",
                version=version,
            )
        )
    # A bare debit would be a payout.
    is_bare = is_unclear and not booking.is_return and data.draw(st.booleans())
    hidden = is_bare or (as_sum and data.draw(st.booleans()))
    return print_entry(
        *(() if hidden else details[1:] if is_short else details),
        amount=print_cents(sum(payment.cents for payment in booking.payments)),
        ref=f"ACSR{booking.number}",
        direction="DBIT" if booking.is_return else "CRDT",
        count=None if single or is_bare else len(details),
        version=version,
    )


def print_files(bookings: list[Booking], data: st.DataObject) -> list[str]:
    """Some files with every booking in detail at least once.

    Perhaps again, or as a sum, or so that it cannot be divided.
    """
    files = []
    for number in range(data.draw(st.integers(1, 3))):
        message, version = (
            data.draw(st.sampled_from(("053", "054"))),
            data.draw(st.sampled_from(VERSIONS)),
        )
        statements: list[tuple[str, ...]] = []
        for _ in range(data.draw(st.integers(1, 2))):
            order = data.draw(st.permutations(bookings))
            chosen = (
                order
                if number == 0 and not statements
                else order[: data.draw(st.integers(0, len(order)))]
            )
            entries = []
            for booking in chosen:
                full = number == 0 and not statements
                form = "parts"
                if not full and len(booking.payments) > 1:
                    form = data.draw(st.sampled_from(("parts", "sum", "unclear")))
                is_unclear = form == "unclear"
                entries.append(
                    print_booking(
                        booking, version, data, as_sum=form == "sum", is_unclear=is_unclear
                    )
                )
            statements.append(tuple(entries))
        packing = Packing(
            message,
            version,
            f"S{number}",
            envelope=data.draw(st.sampled_from(ENVELOPES)),
            namespace=data.draw(st.booleans()),
        )
        files.append(print_file(*statements, packing=packing))
    return list(data.draw(st.permutations(files)))


def right_totals(bookings: list[Booking]) -> dict[str, int]:
    """What each player and house account has after all bookings, in cents, by the facts alone."""
    totals: dict[str, int] = defaultdict(int)
    for booking in bookings:
        sign = -1 if booking.is_return else 1
        for payment in booking.payments:
            owner = "suspense:camt" if payment.deposit is None else f"p-{payment.deposit}"
            totals[owner] += sign * payment.cents
            totals["psp:camt"] -= sign * payment.cents
    return {name: cents for name, cents in totals.items() if cents}


def book(files: list[str]) -> dict[str, int]:
    opened = [
        json.dumps(
            {
                "operation": "deposit.opened",
                "id": f"dep-{number}x",
                "at": "2026-09-21T14:00:00Z",
                "player_id": f"p-{number}",
                "amount": "1.00",
                "currency": "EUR",
                "psp": "any",
            }
        )
        for number in range(4)
    ]
    bodies = [("house", text) for text in opened] + [("camt", text) for text in files]
    explanation = explain(
        [
            RawBody(str(at), f"provider.{provider}.raw.v1", text.encode(), [], at, APPENDED_AT)
            for at, (provider, text) in enumerate(bodies)
        ]
    )
    assert explanation.rejected == []
    found = explanation.balances() | explanation.house()
    cents = {name: int(Decimal(text["EUR"]).scaleb(2)) for name, text in found.items()}
    return {name: number for name, number in cents.items() if number}


@examples(150)
@given(facts=BOOKINGS, data=st.data())
def test_the_same_payments_in_any_packing_book_the_same_money(
    facts: list[tuple[list[Payment], bool]], data: st.DataObject
) -> None:
    bookings = [
        Booking(number, tuple(payments), is_return)
        for number, (payments, is_return) in enumerate(facts)
    ]
    assert book(print_files(bookings, data)) == right_totals(bookings)
