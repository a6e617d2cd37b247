"""Fixtures live in `fix_*.py` by subject; here is only what concerns every test."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["tests.support.fix_stack"]

# A failing example is printed as a decorator that replays it; a slow machine is no failure.
settings.register_profile("pitboss", print_blob=True, deadline=None)
settings.register_profile("prove", settings.get_profile("pitboss"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pitboss"))
