"""The ledger's tables: one transaction takes a group of batches from the log to COMMIT.

Begin with `ledger.py`; `transaction.py` has the statements that it executes, `decide_ahead.py`
decides the next group meanwhile.
"""
