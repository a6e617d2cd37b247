"""The server's catalogue of our tables, for comparisons; and rows for every table."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

SCHEMAS = ["public", "fraud", "dead_letters", "away"]

_ACL = "(SELECT array_agg(item::text ORDER BY item::text) FROM unnest({}) AS item)"
_CATALOGUE = {
    "schemas": f"SELECT nspname, nspowner::regrole::text, {_ACL.format('nspacl')} FROM pg_namespace n WHERE nspname = ANY(%s)",
    "relations": f"""SELECT n.nspname, relname, relkind, relowner::regrole::text, relpersistence, reloptions,
        pg_get_expr(relpartbound, c.oid), pg_get_partkeydef(c.oid), {_ACL.format("relacl")}
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE n.nspname = ANY(%s)""",
    "columns": f"""SELECT attrelid::regclass::text, attname, row_number() OVER (PARTITION BY attrelid ORDER BY attnum),
        format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage, attcompression,
        attcollation::regcollation::text, pg_get_expr(adbin, adrelid), {_ACL.format("attacl")}
        FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attnum > 0 AND NOT attisdropped AND n.nspname = ANY(%s)""",
    "constraints": """SELECT conrelid::regclass::text, conname, convalidated, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = connamespace WHERE n.nspname = ANY(%s)""",
    "indexes": """SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index
        JOIN pg_class c ON c.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE n.nspname = ANY(%s)""",
    "triggers": """SELECT pg_get_triggerdef(t.oid), tgenabled FROM pg_trigger t
        JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace WHERE n.nspname = ANY(%s)""",
    "functions": f"""SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), proowner::regrole::text, {_ACL.format("proacl")}
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE n.nspname = ANY(%s)""",
    "later tables": f"""SELECT n.nspname, defaclrole::regrole::text, defaclobjtype, {_ACL.format("defaclacl")}
        FROM pg_default_acl JOIN pg_namespace n ON n.oid = defaclnamespace WHERE n.nspname = ANY(%s)""",
}


def catalogue(connection: Connection[Any]) -> dict[str, list[str]]:
    """Return the catalogue without the order of creation."""
    return {
        what: sorted(repr(row) for row in connection.execute(query.encode(), (SCHEMAS,)).fetchall())
        for what, query in _CATALOGUE.items()
    }


def tables(connection: Connection[Any]) -> list[tuple[str, str]]:
    """Return schema and name of every table except the lists of migrations."""
    return connection.execute(
        """SELECT n.nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE n.nspname = ANY(%s) AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'schema_migration'
            ORDER BY 1, 2""",
        (SCHEMAS,),
    ).fetchall()


def row_of(connection: Connection[Any], schema: str, table: str, number: int) -> sql.Composed:
    """Return an INSERT of a valid row, a different one for each number."""
    needed = connection.execute(
        """SELECT attname, format_type(atttypid, NULL), attnum FROM pg_attribute
            WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND attnum > 0 AND NOT attisdropped
              AND attnotnull AND NOT atthasdef AND attidentity = '' ORDER BY attnum""",
        (schema, table),
    ).fetchall()
    where = sql.Identifier(schema, table)
    if not needed:
        return sql.SQL("INSERT INTO {} DEFAULT VALUES ON CONFLICT DO NOTHING").format(where)
    columns = sql.SQL(", ").join(sql.Identifier(name) for name, _, _ in needed)
    values = sql.SQL(", ").join(_value(name, kind, number, place) for name, kind, place in needed)
    return sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
        where, columns, values
    )


def _value(name: str, kind: str, number: int, place: int) -> sql.Composable:
    # Later columns are greater: an end is behind its beginning.
    match kind:
        case "smallint" | "integer" | "bigint":
            return sql.Literal(100 * number + place)
        case "boolean":
            return sql.Literal(False)
        case "uuid":
            return sql.Literal(f"00000000-0000-4000-8000-{number:06d}{place:06d}")
        case "jsonb":
            return sql.Literal("{}")
        case "bytea":
            return sql.Literal(bytes([number]))
        case "text" if name == "action":
            return sql.Literal("DROP")
        case "text" if name == "kind":
            return sql.Literal("CLOSED")
        case "text":
            return sql.Literal(f"{name}-{number}")
        case _:
            raise AssertionError(f"give a value for the type {kind} here")


def fill(connection: Connection[Any], number: int) -> None:
    """Insert a row into every table."""
    for schema, table in tables(connection):
        connection.execute(row_of(connection, schema, table, number))


def counts(connection: Connection[Any]) -> dict[str, int]:
    """Return the number of rows of each table."""
    return {
        f"{schema}.{table}": connection.execute(
            sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        ).fetchall()[0][0]
        for schema, table in tables(connection)
    }
