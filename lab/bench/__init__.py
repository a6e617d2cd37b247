"""Measurements of the product, each with its peer or target in the same run."""
