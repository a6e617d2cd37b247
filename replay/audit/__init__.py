"""The six checks of an installation and their evidence."""
