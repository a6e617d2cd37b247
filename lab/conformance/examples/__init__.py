"""Examples of every adapter's messages, for the conformance suite, the fuzzer and the benchmark."""
