"""Session tokens: made by the casino, believed only with the right mac."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.decisions.sessions import PlayerSession, SessionKey
from schemas.errors import UsageError

KEY = SessionKey(bytes(range(32)))
SESSION = PlayerSession("p-1", "EUR", 4_000_000_000)
TOKEN = "WyJwLTEiLCJFVVIiLDQwMDAwMDAwMDBd.3Wvrwx2zoAc-uOrkhhhBBP65Y9fjO33-AyKE_tcmFUk"


def test_the_form_of_a_token_is_the_documents():
    assert KEY.make_token(SESSION) == TOKEN
    assert KEY.read_token(TOKEN) == SESSION


@given(st.text(max_size=64), st.sampled_from(["EUR", "JPY", "BTC"]), st.integers(0, 2**40))
def test_a_token_says_what_was_put_into_it(player, currency, ends_s):
    session = PlayerSession(player, currency, ends_s)
    assert KEY.read_token(KEY.make_token(session)) == session


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("AZaz09-_."))
def test_a_token_with_another_letter_is_none_of_ours(place, letter):
    changed = TOKEN[:place] + letter + TOKEN[place + 1 :]
    assert KEY.read_token(changed) == (SESSION if changed == TOKEN else None)


@given(st.text(max_size=200))
def test_any_other_text_is_unknown(text):
    assert KEY.read_token(text) is None


def test_another_key_makes_other_tokens():
    assert SessionKey(bytes(32)).read_token(TOKEN) is None
    with pytest.raises(UsageError, match="at least 32"):
        SessionKey(b"short")


def test_a_payload_of_another_shape_is_unknown_even_if_it_is_signed():
    for payload in ("W10", "e30", "!!!!", "WzEsMiwzXQ"):
        assert KEY.read_token(f"{payload}.{KEY._mac(payload)}") is None
