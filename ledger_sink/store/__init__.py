"""The ledger's tables: one transaction takes a group of batches from the log to COMMIT.

Begin with `ledger.py`; `transaction.py` is what it executes, `decide_ahead.py` what it decides
meanwhile.
"""
