"""Seeded players and the providers they play with: byte-true raw records in four real dialects.

`scenario.generate` makes the records, `feeder.feed_records` appends them to the raw topics. The
sandbox is not an oracle: it follows balances only so that play is plausible.
"""
