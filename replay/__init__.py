"""Reading history again: topics, the ledger from its log, and the checks that both agree."""
