"""Records of our topics as Arrow columns, decoded a whole batch at a time.

    byte_batch   numbers, texts and bytes of many records at once
    avro_reader  a schema's records as columns, by the plan of `schemas.compiler.resolution`
    decimals     exact amounts as DECIMAL(38, 18)
    topic_table  records of one topic as a table: fields, and where each row is from
    where        a small expression over fields: parsed, and evaluated for one row
    where_mask   the same expression over a whole table
    masking      personal and secret fields, by the tags of the schemas

Needs the packages of the extra `replay`.
"""
