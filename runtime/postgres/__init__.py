"""PostgreSQL for every component: connections, the roles they work under, and migrations."""
