"""A provider that renames a field of its API: this needs one adapter file and one registry row."""
