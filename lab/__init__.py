"""Tools that feed, break and measure the product: sandbox, simulator, conformance and benchmarks.

Not in the production image.
"""
