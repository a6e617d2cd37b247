"""Kafka for every worker: the app, its intake and agents, the producer, and the watchdog.

Everything that imports Faust or a Kafka client for a worker lives here. The intake reads through
librdkafka (confluent-kafka); aiokafka produces whole batches, asks the broker and administers it.
"""
