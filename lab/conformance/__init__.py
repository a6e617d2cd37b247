"""Traffic of every adapter, as it should be and as it should not, through the real normaliser:
nothing raises, nothing is lost, no amount is another one.
"""
