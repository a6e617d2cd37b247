"""Templates of a new adapter.

A working one of an imagined JSON wallet, to be turned into a provider's.
"""
