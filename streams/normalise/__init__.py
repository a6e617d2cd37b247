"""The normaliser: raw records of providers to events of the log."""
