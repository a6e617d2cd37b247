"""The role `ledger`: batches of the log in, one transaction a group, answers out.

Begin with `handler.py`.
"""
