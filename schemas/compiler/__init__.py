"""Makes functions that write and read one schema's records, from its file, at a fraction of a
general library's cost.

    avro_types    a schema file as a tree            resolution    what a reader makes of a writer's
    bytes: a plan binding       the class of each record           leaves        numbers and
    strings, one by one source        lines to a callable                judge         why a schema
    cannot hold a value encode        the function that writes           decode        the function
    that reads: `quick_reader` writes the
                                                                   lines for the usual,
                                                                   `exact_reader` for the rest

fastavro stays the reference: the tests hold each byte and each value against it.
"""
