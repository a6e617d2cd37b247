"""Contracts: the data that crosses a process boundary.

This package imports no other package of ours and does no I/O beyond reading its own files.
"""
