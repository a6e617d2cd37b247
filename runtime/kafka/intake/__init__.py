"""The intake: how records enter a worker, and when their offsets are committed.

Begin with `intake.py`, which shows why no record can be lost.
"""
