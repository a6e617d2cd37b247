"""One writer a provider: intents to the signed bytes that this provider sends.

`lab.conformance.intents` has what a writer is given, `writer` the class that it implements, `find`
how it is found: by the name of its adapter's module. Sandbox, conformance examples, fuzzer,
simulator and benches send what these modules write. A writer follows the provider's document and
never imports an adapter: it is the second opinion on it.
"""
