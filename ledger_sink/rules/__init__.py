"""The posting rules: an event and a book in, a changed book out.

Pure: nothing here knows a broker, a database, a clock or the environment. Import-linter holds that.
Begin with `posting.py`.
"""
