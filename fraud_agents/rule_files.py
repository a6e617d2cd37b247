"""A rule as a file that a person writes: checked by a JSON Schema of its detector. Pure.

What the file does not say is as in the detector's rule of the release, at the moment when it is
published: the published version holds every number, so a later release changes nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import jsonschema
import msgspec

from fraud_agents.detectors.catalogue import DEFAULT_RULES
from fraud_agents.rules import SEVERITIES, ControlGroup, Limit, Rule, RuleScope
from schemas.errors import UsageError, suggest

GAME_DETECTORS: Final = frozenset({"D01", "D01B"})
"""Detectors whose findings rest on the events of games alone: only they can be limited to games."""

_SPANS: Final = ("window_ms", "grace_ms", "dedup_horizon_ms", "cooldown_ms", "idle_ms")
_COUNT: Final = {"type": "integer", "minimum": 1}
_WHOLE: Final = {"type": "integer", "minimum": 0}
_STATED: Final = {"value": _WHOLE, "source": {"type": "string", "minLength": 1}}
_LIMIT: Final = {
    "oneOf": [
        _WHOLE,
        {
            "type": "object",
            "required": ["value", "source"],
            "properties": _STATED,
            "additionalProperties": False,
        },
    ]
}
_NAMES: Final = {"type": "array", "items": {"type": "string", "minLength": 1}, "uniqueItems": True}


def file_detectors() -> dict[str, Rule]:
    """Return the rules of the release that a file may vary, by detector."""
    return {rule.rule_id: rule for rule in DEFAULT_RULES}


def schema_of(base: Rule) -> dict[str, Any]:
    """Return the JSON Schema of a file for the detector of a rule."""
    games = ["games"] if base.rule_id in GAME_DETECTORS else []
    names = ["regions", "brands", "segments", *games]
    share = {"type": "integer", "minimum": 1, "maximum": 50}
    return _closed(
        {
            "rule": {"type": "string", "pattern": r"^[A-Z][A-Z0-9-]{1,31}$"},
            "version": _COUNT,
            "detector": {"const": base.rule_id},
            "title": {"type": "string", "minLength": 1, "maxLength": 80},
            "severity": {"enum": list(SEVERITIES)},
            "owner": {"type": "string", "minLength": 1},
            "reason": {"type": "string", "minLength": 10},
            "scope": _closed(dict.fromkeys(names, _NAMES)),
            "control": _closed(
                {"percent": share, "exposed_minor_max": _COUNT, "day_minor_max": _COUNT},
                required=["percent", "exposed_minor_max", "day_minor_max"],
            ),
            "stops_player": {"type": "boolean"},
            "parameters": _parameters_of(base),
        },
        required=["rule", "version", "detector", "owner", "reason"],
    )


def _parameters_of(base: Rule) -> dict[str, Any]:
    own_regions = {name for numbers in base.regions.values() for name in numbers}
    regional = _closed(dict.fromkeys(sorted({*base.limits, *own_regions}), _LIMIT))
    return _closed(
        {
            "threshold": _COUNT,
            "close_below": _COUNT,
            **dict.fromkeys(_SPANS, _WHOLE),
            "limits": _closed(dict.fromkeys(base.limits, _LIMIT)),
            "regions": {"type": "object", "additionalProperties": regional},
            "words": _closed(dict.fromkeys(base.words, _NAMES)),
        }
    )


def _closed(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the schema of an object that has no other members."""
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


def rule_of(content: bytes, place: str) -> Rule:
    """Return the whole rule that a file states.

    Raises UsageError that names the place and what is wrong there.
    """
    try:
        document = msgspec.json.decode(content)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{place} is not JSON: {error}") from error
    known = file_detectors()
    detector = document.get("detector") if isinstance(document, dict) else None
    base = known.get(str(detector))
    if base is None:
        hint = suggest(str(detector), known) or f": there are {', '.join(known)}"
        raise UsageError(f"{place}: the worker does not run a detector {detector!r}{hint}")
    errors = jsonschema.Draft202012Validator(schema_of(base)).iter_errors(document)
    found = [f"{error.json_path}: {error.message}" for error in errors]
    if found:
        raise UsageError(f"{place} is not a rule of {detector}: " + "; ".join(found))
    return _apply(base, document)


def _apply(base: Rule, document: Mapping[str, Any]) -> Rule:
    parameters = dict(document.get("parameters", {}))
    limits = {**base.limits, **_limits_of(parameters.pop("limits", {}), base)}
    regions = {name: dict(numbers) for name, numbers in base.regions.items()}
    for region, numbers in parameters.pop("regions", {}).items():
        regions[region] = {**regions.get(region, {}), **_limits_of(numbers, base)}
    words = {**base.words, **parameters.pop("words", {})}
    if "threshold" in parameters:
        # What the file does not say must not contradict what it says.
        parameters.setdefault("close_below", min(base.close_below, parameters["threshold"]))
    scope, control = document.get("scope"), document.get("control")
    named = {
        name: document[name]
        for name in ("severity", "title", "owner", "reason", "stops_player", "version")
        if name in document
    }
    return msgspec.structs.replace(
        base,
        rule_id=document["rule"],
        detector="" if document["rule"] == base.rule_id else base.rule_id,
        scope=None if not scope else RuleScope(**scope),
        control=None if control is None else ControlGroup(**control),
        limits=limits,
        regions=regions,
        words=words,
        **named,
        **parameters,
    )


def _limits_of(numbers: Mapping[str, Any], base: Rule) -> dict[str, Limit]:
    """Return limits in the units and on the side of those that they replace."""
    found = {}
    for name, number in numbers.items():
        old = base.limits.get(name) or next(
            own[name] for own in base.regions.values() if name in own
        )
        value, source = (
            (number["value"], number["source"])
            if isinstance(number, dict)
            else (number, "the rule's reason")
        )
        found[name] = msgspec.structs.replace(old, value=value, source=source)
    return found


def differences(first: Rule, second: Rule) -> list[tuple[str, str, str]]:
    """Return the fields in which two rules differ: name, and the text of each side."""
    sides = [_flatten(msgspec.to_builtins(rule)) for rule in (first, second)]
    names = sorted(sides[0].keys() | sides[1].keys())
    return [
        (name, sides[0].get(name, ""), sides[1].get(name, ""))
        for name in names
        if sides[0].get(name) != sides[1].get(name)
    ]


def _flatten(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return {prefix: text}
    flat: dict[str, str] = {}
    for name, item in value.items():
        flat |= _flatten(item, f"{prefix}.{name}" if prefix else str(name))
    return flat
