"""Operators' actions: corrections, topics, provisioning, checkpoints, reconciliation."""
