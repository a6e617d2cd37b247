"""Kafka for every worker: the app, its intake and agents, the producer, and the watchdog.

Everything that imports Faust or aiokafka's clients for a worker lives here, so that the client
could be replaced.
"""
