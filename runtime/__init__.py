"""Foundation of every worker, below every domain: Kafka, PostgreSQL and dead letters."""
