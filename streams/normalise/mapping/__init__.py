"""The pure half of the normaliser: raw records to events, without broker, database or clock."""
