"""The `pitboss` command line: options, output and exit codes; the work is done elsewhere."""
