"""Reading history again: topics and tables anew, the log through ledger and detectors."""
