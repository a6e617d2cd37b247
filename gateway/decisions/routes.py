"""The table of paths: which provider, brand and call a request's path means.

It is made once from the dialects' faces and the brands of the installation. A path that is not in
it is not a provider's: brands above all are named by the operator, since one signed message sent to
the URL of another brand would be another event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

from schemas.errors import UsageError
from schemas.topics import qualified_name, raw_topic
from streams.providers.dialect import Dialect
from streams.providers.http_face import HttpCall, HttpFace

DEFAULT_BRAND: Final = ""
"""The brand whose records have no header of that name."""


class Route(NamedTuple):
    """What one path means. `http_path` is the header of that name: the path without the brand.

    `currency` is that of every wallet, for calls whose session says none; empty where wallets
    differ.
    """

    path: str
    provider: str
    brand: str
    region: str
    topic: str
    http_path: str
    call: HttpCall
    face: HttpFace
    currency: str = ""


class RouteTable:
    """Every path that is served."""

    def __init__(
        self,
        dialects: Mapping[str, Dialect],
        providers: Collection[str] | None = None,
        brands: Mapping[str, str] | None = None,
        namespace: str = "",
        currency: str = "",
    ) -> None:
        """Make the table for `providers` (None: all with a face) and `brands` (brand → region).

        Without brands there is the default one. Raises UsageError where a named provider has no
        face.
        """
        self.faces: Final = _faces(dialects, providers)
        self._by_path = {
            route.path: route
            for brand, region in (brands or {DEFAULT_BRAND: ""}).items()
            for provider, face in self.faces.items()
            for route in _routes(provider, face, brand, region, namespace, currency)
        }

    def find(self, path: str) -> Route | None:
        """Return the route of a path as it stands in the request, without its query."""
        return self._by_path.get(path)

    @property
    def routes(self) -> Iterable[Route]:
        """All routes, in the order of brands and providers."""
        return self._by_path.values()

    @property
    def topics(self) -> set[str]:
        """The raw topics that calls are appended to."""
        return {route.topic for route in self._by_path.values()}


def base_path(provider: str, brand: str) -> str:
    """Return what a provider's own paths stand behind."""
    return f"/brand/{brand}/{provider}" if brand else f"/{provider}"


def _faces(
    dialects: Mapping[str, Dialect], providers: Collection[str] | None
) -> dict[str, HttpFace]:
    names = sorted(dialects) if providers is None else sorted(providers)
    faces = {}
    for name in names:
        face = dialects[name].face
        if face is not None:
            faces[name] = face
    if not faces:
        raise UsageError(f"none of {', '.join(names)} calls over HTTP: nothing is to be served")
    return faces


def _routes(
    provider: str, face: HttpFace, brand: str, region: str, namespace: str, currency: str
) -> Iterable[Route]:
    topic = qualified_name(raw_topic(provider), namespace)
    base, plain = base_path(provider, brand), base_path(provider, DEFAULT_BRAND)
    for call in face.calls:
        paths = base + call.path, plain + call.path
        yield Route(paths[0], provider, brand, region, topic, paths[1], call, face, currency)
