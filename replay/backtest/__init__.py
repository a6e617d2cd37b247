"""`pitboss rules test`: a rule over a stretch of history, beside the one that is active.

margins   the same rule, asking for more or for less
merged    records of several topics through the merges of the worker
run       the log through the detectors, once for each rule
report    who is flagged by which rule, and who nearly is: pure
"""
