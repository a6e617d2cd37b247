"""What becomes of dead letters: read, redriven or dropped by a person, and what waits behind them
meanwhile.
"""
