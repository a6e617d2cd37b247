"""From the bytes of providers to events of the log, and nothing else."""
