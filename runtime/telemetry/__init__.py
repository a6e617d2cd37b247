"""Telemetry of the workers: declared metrics, health pages, and traces of single bets."""
