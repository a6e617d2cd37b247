"""What is said of a topic that does not exist: who makes it, and for a raw topic by which setting."""

from __future__ import annotations

from runtime.kafka.producer import describe_missing
from schemas.topics import dead_letter_topic, raw_topic


def test_a_raw_topic_is_made_for_a_provider_that_is_named():
    assert describe_missing(f"t.{raw_topic('house')}") == (
        "the topic t.provider.house.raw.v1 does not exist: this installation reads 'house' if "
        "PITBOSS_PROVIDERS names it; set it and run `pitboss provision`"
    )
    letters = dead_letter_topic(raw_topic("house"))
    assert describe_missing(letters) == (
        f"the topic {letters} does not exist: run `pitboss topics create`"
    )
