"""Raw records after an adapter's repair: what they mean now, and the bookings that follow from it.

comparison    the stored raw records read again, beside the events of the log
recompute     the events of the log with the content that their raw records have now
corrections   what those differences did to each player's money, by the rules of the ledger. Pure
"""
