"""Reading a topic whole: the log of a replay, and what people ask for of other topics."""

from runtime.kafka.topic_reader import read_topics

__all__ = ["read_topics"]
