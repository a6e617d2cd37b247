"""What the gateway decides, without network, clock or environment."""
