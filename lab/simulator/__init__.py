"""Deterministic simulator: the real ledger on in-memory servers, with faults drawn from a seed."""
