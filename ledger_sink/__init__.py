"""The ledger: pure posting rules, the store, two worker roles, queries and proofs."""
