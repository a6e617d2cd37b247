"""Proofs about what the ledger holds: seals and checkpoints, and comparisons with other records."""
