"""A deterministic simulator: the real ledger over a broker and a database in memory, with faults
drawn from a seed.
"""
