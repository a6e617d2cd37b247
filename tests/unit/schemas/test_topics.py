"""The catalogue of topics: names that cannot be mistaken for each other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.topics import (
    PROVIDER_NAME,
    catalogue,
    dead_letter_topic,
    provider_of,
    qualified_name,
    raw_pattern,
    raw_topic,
    required_topics,
    unread_pattern,
)

PROVIDERS = st.from_regex(PROVIDER_NAME, fullmatch=True)
NAMESPACES = st.just("") | st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True)


def by_name(providers: list[str]) -> dict:
    return {topic.name: topic for topic in catalogue(providers)}


@given(PROVIDERS, NAMESPACES)
def test_a_raw_topic_is_found_by_its_pattern_and_names_its_provider(provider, namespace):
    name = qualified_name(raw_topic(provider), namespace)
    assert re.match(raw_pattern(namespace), name)
    assert provider_of(name) == provider


@given(PROVIDERS, NAMESPACES, NAMESPACES)
def test_no_other_topic_is_taken_for_raw_input(provider, namespace, other):
    pattern = raw_pattern(namespace)
    raw = qualified_name(raw_topic(provider), namespace)
    assert not re.match(pattern, dead_letter_topic(raw))
    assert not re.match(pattern, f"x{raw}")
    assert not re.match(pattern, raw.replace(".", "_"))
    if other != namespace:
        assert not re.match(pattern, qualified_name(raw_topic(provider), other))
    for topic in catalogue([provider]):
        assert (re.match(pattern, qualified_name(topic.name, namespace)) is not None) == (
            topic.name == raw_topic(provider)
        )


@pytest.mark.parametrize(
    "name",
    [
        "wallet.transactions.v1",
        "provider.hub88.raw.v1.dlt",
        "provider.hub88.raw.v2",
        "a.b.provider.x.raw.v1",
        "",
    ],
)
def test_other_names_have_no_provider(name):
    with pytest.raises(ValueError, match="is not a raw topic"):
        provider_of(name)


def test_names_are_unique_and_every_source_has_a_dead_letter_topic():
    topics = catalogue(["hub88", "adyen"])
    names = [topic.name for topic in topics]
    assert len(names) == len(set(names))
    sources = {
        raw_topic("hub88"),
        raw_topic("adyen"),
        "wallet.transactions.v1",
        "wallet.transactions.unresolved.v1",
        "player.events.v1",
        "game.results.v1",
        "risk.signals.v1",
    }
    assert {name for name in names if name.endswith(".dlt")} == {
        dead_letter_topic(name) for name in sources
    }


def test_what_must_never_be_lost_is_kept_for_ever():
    topics = by_name(["hub88"])
    for name in (
        "wallet.transactions.v1",
        "wallet.balances.v1",
        "risk.alerts.v1",
        "provider.hub88.raw.v1.dlt",
    ):
        assert topics[name].retention_ms == -1
    assert (
        topics["wallet.transactions.v1"].cleanup == "delete"
    )  # compaction would take history away
    assert topics["wallet.balances.v1"].cleanup == "compact"


def test_the_brokers_clock_stamps_what_connectors_send():
    """The clamp of event time needs an append time that no connector chose."""
    assert by_name(["hub88"])["provider.hub88.raw.v1"].timestamp_type == "LogAppendTime"


def test_the_catalogue_does_not_depend_on_the_order_of_providers():
    assert catalogue(["hub88", "adyen"]) == catalogue(["adyen", "hub88"])


def test_a_namespace_is_a_prefix_and_none_is_none():
    assert qualified_name("wallet.balances.v1", "t1") == "t1.wallet.balances.v1"
    assert qualified_name("wallet.balances.v1", "") == "wallet.balances.v1"


def test_a_choice_of_providers_is_read_and_no_other():
    pattern = raw_pattern("t1", {"hub88", "house"})
    names = ("hub88", "house", "adyen", "hub88x", "xhub88")
    read = [name for name in names if re.match(pattern, f"t1.{raw_topic(name)}")]
    assert read == ["hub88", "house"]
    assert not re.match(pattern, "t1." + dead_letter_topic(raw_topic("hub88")))
    made = required_topics(["hub88"], [f"t1.{raw_topic('adyen')}"], "t1", read=["hub88"])
    assert dead_letter_topic(raw_topic("adyen")) not in {topic.name for topic in made}
    made = required_topics(["hub88"], [f"t1.{raw_topic('adyen')}"], "t1")
    assert dead_letter_topic(raw_topic("adyen")) in {topic.name for topic in made}


@pytest.mark.parametrize(
    ("name", "is_similar"),
    [
        ("t1.provider.hub88.raw.v1", True),
        ("t1.provider.Hub-88.raw.v1", True),
        ("t1.provider.hub88.raw.v2", True),
        ("t1.provider.hub88.raw.v1.dlt", False),
        ("provider.hub88.raw.v1", False),
        ("t1.wallet.transactions.v1", False),
    ],
)
def test_what_a_connector_may_take_for_a_raw_topic_is_known(name, is_similar):
    assert (re.match(unread_pattern("t1"), name) is not None) == is_similar


def test_raw_topics_have_a_partition_count_of_their_own():
    counts = {topic.name: topic.partitions for topic in catalogue(["hub88"], raw_partitions=3)}
    assert counts[raw_topic("hub88")] == 3
    assert counts["wallet.transactions.v1"] == 0
    assert by_name(["hub88"])[raw_topic("hub88")].partitions == 6
