"""Which provider, brand and call a path means."""

from __future__ import annotations

import pytest

from gateway.decisions.routes import RouteTable
from schemas.errors import UsageError
from streams.providers.registry import DIALECTS


def test_the_default_brand_has_the_short_urls():
    route = RouteTable(DIALECTS, {"hub88"}).find("/hub88/transaction/bet")
    assert route is not None
    assert (route.provider, route.brand, route.region) == ("hub88", "", "")
    assert route.topic == "provider.hub88.raw.v1"
    assert route.http_path == "/hub88/transaction/bet"


def test_a_brand_has_urls_of_its_own_and_its_region():
    table = RouteTable(DIALECTS, {"hub88", "playngo"}, {"lucky": "eu", "star": ""}, "t1")
    route = table.find("/brand/lucky/hub88/transaction/win")
    assert route is not None
    assert (route.brand, route.region) == ("lucky", "eu")
    assert route.http_path == "/hub88/transaction/win"
    assert route.topic == "t1.provider.hub88.raw.v1"
    assert table.find("/brand/star/playngo") is not None


@pytest.mark.parametrize(
    "path",
    [
        "/brand/other/hub88/transaction/win",
        "/hub88/transaction/win",
        "/brand/lucky/hub88/transaction/win/",
        "/brand/lucky/hub88/transaction/../transaction/win",
        "/brand/lucky/hub88/transaction%2Fwin",
        "/brand/lucky//hub88/transaction/win",
        "http://host/brand/lucky/hub88/transaction/win",
        "",
        "/",
    ],
)
def test_any_other_path_is_of_no_provider(path):
    assert RouteTable(DIALECTS, {"hub88"}, {"lucky": "eu"}).find(path) is None


def test_only_the_named_providers_are_served():
    table = RouteTable(DIALECTS, {"hub88", "camt"})
    assert set(table.faces) == {"hub88"}
    assert table.topics == {"provider.hub88.raw.v1"}
    assert table.find("/playngo") is None
    with pytest.raises(UsageError, match="camt calls over HTTP"):
        RouteTable(DIALECTS, {"camt"})


def test_no_two_calls_share_a_path():
    table = RouteTable(DIALECTS, None, {"a": "", "b": ""})
    assert len({route.path for route in table.routes}) == len(list(table.routes))
    assert "brand" not in DIALECTS  # its URLs would be those of brands
