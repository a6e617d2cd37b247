"""The ledger as of any moment: its log booked again into a shadow database, and compared.

rebuild      the recorded batches through the production code, in the recorded order
comparison   live and rebuilt rows, by digests first and row by row where those differ
"""
