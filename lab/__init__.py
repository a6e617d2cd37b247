"""What plays, breaks and measures the product: sandbox, simulator, conformance and benchmarks.

Not in the production image.
"""
