"""Nearest known name for one that was mistyped, of commands, choices and names of the domain."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from schemas.errors import nearest_name, suggest


class SuggestingGroup(click.Group):
    """Command group that names the nearest command for one that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command as click does. Raises click.UsageError with a suggestion."""
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            hint = suggest(name, known) or f": commands are {', '.join(known)}"
            raise click.UsageError(f"No such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


class NameChoice(click.Choice[str]):
    """Choice that names the nearest of its values for one that is not among them."""

    def __init__(self, choices: Sequence[str], *, case_sensitive: bool = True) -> None:
        super().__init__(choices, case_sensitive=case_sensitive)

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return click's message with a suggestion, and the choices as they are documented.

        Click shows those of a choice that ignores case in lower case.
        """
        listed = NameChoice([str(choice) for choice in self.choices])
        message = super(NameChoice, listed).get_invalid_choice_message(value, ctx)
        name = nearest_name(str(value), map(str, self.choices))
        return message if name is None else f"{message} Did you mean {name!r}?"


class KnownName(click.ParamType):
    """Name of a set that this release knows, read when it is needed.

    A strict type refuses another name. A lenient one passes it with a note on stderr, for filters
    over stored rows: those may have names that an earlier release knew.
    """

    def __init__(
        self,
        name: str,
        known: Callable[[], Collection[str]],
        *,
        is_strict: bool,
        convert: Callable[[str], str] = str,
    ) -> None:
        self.name = name
        self.known = known
        self.is_strict = is_strict
        self._convert = convert

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name. Raises click.BadParameter if it is unknown and the type is strict."""
        name = self._convert(str(value))
        known = self.known()
        if name in known or (ctx is not None and ctx.resilient_parsing):
            return name
        hint = suggest(name, known)
        if self.is_strict:
            listed = hint or f": known are {', '.join(sorted(known))}"
            self.fail(f"{self.name} {name!r} is not known{listed}", param, ctx)
        click.echo(f"note: {self.name} {name!r} is not known to this release{hint}", err=True)
        return name

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the known names that begin with what is typed; asks no server."""
        typed = self._convert(incomplete)
        return [CompletionItem(name) for name in sorted(self.known()) if name.startswith(typed)]


def _providers() -> Collection[str]:
    from streams.providers.registry import DIALECTS

    return list(DIALECTS)


def _topics() -> Collection[str]:
    from schemas.topics import catalogue

    providers = _providers()
    return [*(topic.name for topic in catalogue(sorted(providers))), *providers]


def _rules() -> Collection[str]:
    from fraud_agents.detectors import DEFAULT_RULES
    from ledger_sink.rules import debts, payments

    ledger = (debts.RULE, payments.RULE, payments.OPENED_RULE)
    return [*(rule.rule_id for rule in DEFAULT_RULES), *ledger]


def _detector_rules() -> Collection[str]:
    from fraud_agents.detectors import DEFAULT_RULES

    return [rule.rule_id for rule in DEFAULT_RULES]


def _codes() -> Collection[str]:
    from schemas.errors import RejectCode

    return [code.value for code in RejectCode]


def _currencies() -> Collection[str]:
    from schemas.money import EXPONENTS

    return list(EXPONENTS)


def narrow_options(error: click.NoSuchOption) -> click.NoSuchOption:
    """Return the error with the nearest option only: click lists all that are faintly similar."""
    possible = error.possibilities or []
    name = nearest_name(error.option_name, possible)
    return click.NoSuchOption(
        error.option_name, possibilities=possible if name is None else [name], ctx=error.ctx
    )


PROVIDER: Final = KnownName("provider", _providers, is_strict=True)
STORED_PROVIDER: Final = KnownName("provider", _providers, is_strict=False)
"""Provider of rows that are stored: its adapter may have been removed since."""
TOPIC: Final = KnownName("topic", _topics, is_strict=False)
"""Topic of the catalogue without the namespace, or a provider's name for its raw topic."""
RULE: Final = KnownName("rule", _rules, is_strict=False, convert=str.upper)
DETECTOR_RULE: Final = KnownName("rule", _detector_rules, is_strict=False, convert=str.upper)
"""Rule of a detector, without those of the ledger."""
CURRENCY: Final = KnownName("currency", _currencies, is_strict=True, convert=str.upper)
REJECT_CODE: Final = KnownName("reject code", _codes, is_strict=False, convert=str.upper)
