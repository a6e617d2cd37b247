"""Schema drift: payloads compared with their declared schemas, each shape published once."""
