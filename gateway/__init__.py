"""The HTTP door for providers.

Empty: a later release fills it; the import contracts hold its place already.
"""
