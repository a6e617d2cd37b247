"""Ids as providers shape them, drawn from the generator of a scenario."""

from __future__ import annotations

from random import Random
from typing import Final

_UUID_VERSION_4: Final = 4 << 76
_UUID_VARIANT: Final = 2 << 62
_UUID_FREE_BITS: Final = ~((0xF << 76) | (3 << 62))
_PSP_ALPHABET: Final = "BCDFGHJKLMNPQRSTVWXZ2345679"


def uuid_of(bits: int) -> str:
    """Format 128 random bits as a version 4 UUID."""
    # Formatted here: uuid.UUID costs four times this, and a record needs up to four.
    text = f"{bits & _UUID_FREE_BITS | _UUID_VERSION_4 | _UUID_VARIANT:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def uuid7_of(at_ms: int, bits: int) -> str:
    """Format a time in epoch ms and random bits as a version 7 UUID."""
    time, tail = f"{at_ms:012x}", uuid_of(bits)
    return f"{time[:8]}-{time[8:]}-7{tail[15:]}"


class Ids:
    """Source of ids that never repeat within a scenario, and hardly ever between two."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        # 19 digits at most: providers count their transactions in 64 bits.
        self._number = rng.randrange(10**14, 10**15) * 1000

    def uuid(self) -> str:
        """Draw a version 4 UUID."""
        return uuid_of(self._rng.getrandbits(128))

    def uuid7(self, at_ms: int) -> str:
        """Draw a version 7 UUID of this time (RFC 9562)."""
        return uuid7_of(at_ms, self._rng.getrandbits(128))

    def number(self) -> int:
        """Return a counter's next value, with gaps such as the provider's other customers leave."""
        self._number += self._rng.randint(1, 9)
        return self._number

    def psp_reference(self) -> str:
        """Draw sixteen letters and digits, as in Adyen's pspReference."""
        return self.code(16)

    def code(self, length: int) -> str:
        """Draw upper-case letters and digits that are not mistaken for each other."""
        return "".join(self._rng.choices(_PSP_ALPHABET, k=length))
