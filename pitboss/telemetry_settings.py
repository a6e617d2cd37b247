"""Settings of telemetry: the ports of the workers' pages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pitboss.gateway_settings import PORT_MAX
from pitboss.setting_table import BY_NAME
from pitboss.settings import read_foreign, read_values
from pitboss.workers import ALL_ROLES
from runtime.telemetry.settings import TelemetrySettings
from schemas.errors import UsageError

PORT_VARIABLE: Final = BY_NAME["telemetry_port"].variable
OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
"""OpenTelemetry's own variable: which names a program emits whose conventions have changed."""
_DUPLICATES: Final = frozenset({"messaging/dup", "http/dup"})
PORTS_OF_A_ROLE_APART: Final = 10
"""From the port of a role's first worker to that of its second: more than there are roles."""


def read_telemetry_settings(environ: Mapping[str, str] | None = None) -> TelemetrySettings:
    """Read the settings of telemetry.

    Raises UsageError for a value that is wrong, and where older names are asked for beside ours.
    """
    given = read_values(environ)
    port: int | None = given["telemetry_port"].value
    if port is not None and port > PORT_MAX:
        place = given["telemetry_port"].place
        raise UsageError(f"{place} is {port}: give a port up to {PORT_MAX:,}")
    otlp: str = given["otlp"].value
    if otlp and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", otlp):
        raise UsageError(f"{given['otlp'].place} is {otlp!r}: write it as http://127.0.0.1:4318")
    settings = TelemetrySettings(port, otlp, given["trace_sample"].value)
    if settings.is_on:
        _check_opt_in(read_foreign(OPT_IN, environ))
    return settings


def _check_opt_in(value: str) -> None:
    """Raise UsageError where a value of `OPT_IN` asks for names of earlier conventions, too.

    `messaging` and `http` ask for the names that are emitted in any case, and other words are of
    conventions that Pitboss emits nothing of.
    """
    if duplicates := sorted(_DUPLICATES & {word.strip() for word in value.split(",")}):
        raise UsageError(
            f"{OPT_IN} has {duplicates[0]!r}, which asks for metrics under older names, too:"
            f" Pitboss never had any; write {duplicates[0].removesuffix('/dup')!r}, or leave it out"
        )


def worker_port(base: int, role: str, number: int) -> int:
    """Return the port of the `number`th worker of a role, counted from 1, of one `pitboss run`.

    A base of 0 stays: each worker takes any port that is free. Raises UsageError where the
    number would be too high.
    """
    if base == 0:
        return 0
    port = base + ALL_ROLES.index(role) + PORTS_OF_A_ROLE_APART * (number - 1)
    if port > PORT_MAX:
        raise UsageError(
            f"PITBOSS_TELEMETRY_PORT {base} leaves no port for {role}-{number}: give a lower one"
        )
    return port
