"""Version 2 of the made-up provider, in which only `balance_update` is called `funds_update`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from streams.providers.fields import read_json
from tests.renaming.acme import Acme, Update


class Body(msgspec.Struct):
    funds_update: Update


@dataclass(frozen=True)
class AcmeV2(Acme):
    version: ClassVar[str] = "2"
    body: ClassVar[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Body)

    def update(self, value: bytes) -> Update:
        return read_json(self.body, value).funds_update
