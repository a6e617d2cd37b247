"""One player's bad week, from the raw records to the balance: a marimo notebook.

`marimo edit docs/howto/bad_week.py -- --folder week` opens it over the files of bad-week.md.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    from pathlib import Path

    import duckdb
    import marimo as mo
    import polars as pl

    return Path, duckdb, mo, pl


@app.cell
def _(mo):
    folder = str(mo.cli_args().get("folder") or "week")
    return (folder,)


@app.cell
def _(Path, duckdb, folder, pl):
    # Each attempt with its answer: refused bets have their amounts, copies of a record count once.
    story_sql = """
        WITH attempts AS (
            SELECT * FROM read_parquet($transactions)
           QUALIFY row_number() OVER (PARTITION BY event_id, attempt ORDER BY _partition, _offset) = 1
        ), answers AS (
            SELECT * FROM read_parquet($outcomes)
           QUALIFY row_number() OVER (PARTITION BY event_id, attempt ORDER BY _partition, _offset) = 1
        )
        SELECT a._partition AS log_partition, a._offset AS log_offset,
               a.attempt.topic AS raw_topic, a.attempt.partition AS raw_partition,
               a.attempt.offset AS raw_offset,
               CAST(a.occurred_at AT TIME ZONE 'UTC' AS TIMESTAMP) AS at,
               a.provider, a.game_id, a.round_id, a.operation, a.provider_tx_id,
               leg.kind AS kind, leg.currency AS currency, leg.amount AS amount,
               o.outcome, o.reason, o.currency AS wallet, o.version, o.balance
          FROM attempts a
          CROSS JOIN unnest(a.legs) AS legs(leg)
          LEFT JOIN answers o ON o.event_id = a.event_id AND o.attempt = a.attempt
         ORDER BY log_partition, log_offset
    """
    files = {name: str(Path(folder) / f"{name}.parquet") for name in ("transactions", "outcomes")}
    story = pl.from_arrow(duckdb.sql(story_sql, params=files).to_arrow_table())
    return (story,)


@app.cell
def _(mo, story):
    mo.md(f"## Everything that was tried: {story.height} movements, in the order of the log")
    return


@app.cell
def _(story):
    story
    return


@app.cell
def _(pl, story):
    # A day at a time: what was staked, won and refused. Bets that were rolled back are staked, too.
    posted = pl.col("outcome") == "POSTED"
    days = (
        story.filter(pl.col("currency").is_not_null())
        .with_columns(day=pl.col("at").dt.date())
        .group_by("day", "currency")
        .agg(
            staked=pl.col("amount").filter(posted & (pl.col("kind") == "BET")).sum(),
            won=pl.col("amount")
            .filter(posted & pl.col("kind").is_in(["WIN", "JACKPOT_WIN"]))
            .sum(),
            refused=pl.col("amount").filter(pl.col("outcome").str.starts_with("REFUSED")).sum(),
            attempts=pl.len(),
        )
        .sort("day", "currency")
        .with_columns(lost=pl.col("staked") - pl.col("won"))
    )
    worst = days.sort("lost", descending=True).head(1)
    return days, worst


@app.cell
def _(days):
    days
    return


@app.cell
def _(mo, worst):
    mo.md(f"## The worst day: {worst['day'][0]}, {worst['lost'][0]} {worst['currency'][0]} lost")
    return


@app.cell
def _(Path, duckdb, folder, pl):
    # The bytes as the provider sent them, for each attempt, where the raw topic was exported too.
    raw_file = Path(folder) / "raw.parquet"
    raw_sql = """
        SELECT t.provider_tx_id, t.operation, r._append_at::text AS received, try(decode(r.value)) AS body
          FROM read_parquet($raw) r
          JOIN read_parquet($transactions) t
            ON t.attempt.topic = r._topic AND t.attempt.partition = r._partition
           AND t.attempt.offset = r._offset
         ORDER BY r._partition, r._offset
    """
    raw_names = {"raw": str(raw_file), "transactions": str(Path(folder) / "transactions.parquet")}
    raw = None
    if raw_file.exists():
        raw = pl.from_arrow(duckdb.sql(raw_sql, params=raw_names).to_arrow_table())
    return (raw,)


@app.cell
def _(raw):
    raw
    return


@app.cell
def _(pl, story):
    # The balance after each decision; its versions say whether a decision is missing here.
    balance = (
        story.filter(pl.col("version").is_not_null())
        .unique(["wallet", "version"], keep="first", maintain_order=True)
        .sort("wallet", "version")
        .select("wallet", "version", "at", "operation", "provider_tx_id", "outcome", "balance")
        .with_columns(moved=pl.col("balance").diff().over("wallet"))
    )
    final = balance.group_by("wallet", maintain_order=True).agg(pl.col("balance").last())
    return balance, final


@app.cell
def _(balance):
    balance
    return


@app.cell
def _(final, mo):
    lines = [f"- {currency}: {amount}" for currency, amount in final.iter_rows()]
    mo.md("\n".join(["## The balance at the end", "", *lines]))
    return


if __name__ == "__main__":
    app.run()
