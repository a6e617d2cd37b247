"""The files of a new adapter: a working one of an imagined JSON wallet, to be turned into a
provider's.
"""
