"""`pitboss replay compare` of two versions of the code: what each makes of the same records.

runner       run by each version's own interpreter and packages: raw records in, results out
comparison   the results of both, side by side: pure
"""
