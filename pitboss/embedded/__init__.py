"""Embedded servers: one Kafka broker and one PostgreSQL server from wheels, for one home folder."""
