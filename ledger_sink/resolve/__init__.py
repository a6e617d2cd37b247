"""The role `resolve`: events without a player in, the same events with one onto the log.

Begin with `resolver.py`.
"""
