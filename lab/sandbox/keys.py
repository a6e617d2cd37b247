"""Secrets that the simulated providers sign with, and the keyring that our normaliser checks by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm

from lab.conformance.writers.find import find_writers
from lab.conformance.writers.writer import Secrets
from schemas.errors import UsageError

SANDBOX_KEY_ID: Final = "sandbox"
OWN_KEY_ID: Final = "installation"


@dataclass(frozen=True)
class SandboxKeys:
    """One set of secrets by provider; the same keys and the same scenario make the same bytes.

    RSA keys cannot be made from a seed, so a set is made once, saved and loaded again.
    """

    secrets: Mapping[str, Secrets] = field(repr=False)

    @classmethod
    def generate(cls) -> SandboxKeys:
        """Make new secrets from the machine's randomness, for every provider with a writer."""
        return cls({}).complete()

    @classmethod
    def load(cls, path: Path) -> SandboxKeys:
        """Read what `save` wrote; raises UsageError if the file is missing or malformed."""
        try:
            stored = json.loads(path.read_bytes())
            keys = cls({name: dict(secrets) for name, secrets in stored.items()})
            if not keys.secrets:
                raise UsageError(f"{path} holds no sandbox keys; delete the file to have some made")
            keys.keyring()
        except OSError as error:
            raise UsageError(f"cannot read the sandbox keys: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
            raise UsageError(
                f"{path} holds no sandbox keys; delete the file to have new ones made"
            ) from error
        return keys

    def save(self, path: Path) -> None:
        """Write all secrets, readable by the owner only; `load` reads them."""
        path.touch(mode=0o600)
        path.chmod(0o600)
        path.write_text(json.dumps(self.secrets, indent=2) + "\n", encoding="utf-8")

    def complete(self) -> SandboxKeys:
        """Return these secrets and new ones for the providers that have none yet."""
        made = {
            name: writer.new_secrets()
            for name, writer in find_writers().items()
            if name not in self.secrets
        }
        return SandboxKeys({**self.secrets, **made}) if made else self

    def of(self, provider: str) -> Secrets:
        """Return one provider's secrets. Raises UsageError where there are none."""
        if provider not in self.secrets:
            raise UsageError(f"the sandbox keys have no secrets of {provider}: complete them")
        return self.secrets[provider]

    def keyring(self) -> Mapping[str, Secrets]:
        """Return what the normaliser needs, shaped as the file that PITBOSS_KEYS_FILE names.

        Only public halves of key pairs are in it, and only providers that sign.
        """
        writers = find_writers()
        rings = {
            name: writers[name].keyring_of(secrets)
            for name, secrets in self.secrets.items()
            if name in writers
        }
        return {name: ring for name, ring in rings.items() if ring}


def unknown_to(keyring: Mapping[str, Any], ours: Mapping[str, Secrets]) -> list[str]:
    """Return the providers of `ours` whose records `keyring` checks by other keys, in order.

    A provider without an entry is not checked, so its records are taken.
    """
    return sorted(
        name
        for name in ours.keys() & keyring.keys()
        if not any(ours[name].items() <= key.items() for key in _keys_of(keyring[name]))
    )


def merge_keyrings(
    keyring: Mapping[str, Any], ours: Mapping[str, Secrets], providers: Iterable[str]
) -> dict[str, Any]:
    """Return the keyring with the sandbox's key beside its own, for each of some providers.

    Its own key stays the last one, so operators' commands still sign with it.
    """
    merged = dict(keyring)
    for name in providers:
        own = keyring.get(name)
        keys = [key for key in _keys_of(own) if key.get("id") != SANDBOX_KEY_ID]
        own_keys = [{"id": OWN_KEY_ID, **key} for key in keys] if isinstance(own, dict) else keys
        merged[name] = [{"id": SANDBOX_KEY_ID, **ours[name]}, *own_keys]
    return merged


def _keys_of(entry: Any) -> list[Mapping[str, Any]]:
    entries = entry if isinstance(entry, list) else [entry]
    return [key for key in entries if isinstance(key, dict)]
