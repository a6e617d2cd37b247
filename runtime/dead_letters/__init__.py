"""Dead letters: how they are published, redriven or dropped, and what waits behind them."""
