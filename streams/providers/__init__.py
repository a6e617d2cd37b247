"""The dialects of the providers: one file each, their versions as rows, and their answers."""
