"""Conformance of every adapter: right and wrong traffic through the real normaliser.

Nothing may raise, no item may be lost, and no amount may change.
"""
