"""Composition: the command line, workers, the embedded servers and what operators do."""
