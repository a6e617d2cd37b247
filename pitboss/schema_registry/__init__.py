"""Our schemas for Confluent's clients: a read-only registry, and an import into others."""
