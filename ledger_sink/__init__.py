"""The ledger: posting rules (pure), the store, the agent, the resolver and the publisher."""
