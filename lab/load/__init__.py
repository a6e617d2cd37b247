"""Load at a steady rate, and the answers to it: for the sandbox, the demo and the benchmarks."""
