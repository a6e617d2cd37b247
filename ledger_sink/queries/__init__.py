"""Questions to the ledger's tables for operators and reports. Nothing is written."""
