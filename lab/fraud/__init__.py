"""Labelled traffic for the fraud detectors, and their score against it.

The traffic knows the definitions of the cases, with numbers of its own, and nothing of the
detectors or their rules: it is the second opinion.
"""
