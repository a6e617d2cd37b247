"""A provider that renames a word of its API: what that touches is one adapter file and one row of the registry."""
