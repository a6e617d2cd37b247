"""Compiler of functions that write and read one schema's records.

They cost a fraction of a general library's.

    avro_types    a schema file as a tree
    binding       the class of each record
    resolution    a plan: how a reader makes its record from a writer's bytes
    source        lines to a callable
    primitives    numbers and strings, one by one
    encode        the function that writes
    mismatch      why a schema cannot hold a value
    decode        the function that reads: quickly the usual form, with fastavro any other
    quick_reader  the lines for the usual form

fastavro stays the reference: the tests compare each byte and each value with it.
"""
