"""Reading history again: topics and tables, and the log once more through ledger and detectors."""
