"""What every worker shares, below every domain: Kafka, PostgreSQL and dead letters."""
