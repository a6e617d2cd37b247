"""The sandbox's secrets that tests share: making RSA keys costs more than most of the tests."""

from __future__ import annotations

from functools import cache

from lab.sandbox.keys import SandboxKeys


@cache
def shared_keys() -> SandboxKeys:
    """Return one set of secrets for the whole process; no test changes it."""
    return SandboxKeys.generate()
