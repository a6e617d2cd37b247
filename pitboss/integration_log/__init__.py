"""Integration log: what happened between this installation and its providers in a period."""
