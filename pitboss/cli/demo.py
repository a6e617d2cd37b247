"""`pitboss demo`: the main job in front of your eyes."""

from __future__ import annotations

import click
import msgspec
from rich.console import Console

from pitboss.demo.run import ChecksFailed, DemoSettings, run_demo
from pitboss.demo.show import Show, lines_of, table_of
from pitboss.settings import read_settings


@click.command()
@click.option("--events", default=20_000, show_default=True, type=click.IntRange(2_000, 5_000_000), help="Raw records.")
@click.option("--seed", default=42, show_default=True, type=click.IntRange(0), help="The same seed, the same traffic.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Records a second; default: as fast as can be."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.option("--keep", is_flag=True, help="Leave namespace, logs and servers for a look at them.")
@click.option("--yes-use-these-servers", is_flag=True, help="Fill the servers that the environment names.")
def demo(*, events: int, seed: int, rate: float | None, as_json: bool, keep: bool, yes_use_these_servers: bool) -> None:
    """Real providers' traffic through real workers, one of them killed, and six checks over what is left.

    Takes a fresh namespace and removes it afterwards. Exit code 0 only if every check holds.
    """
    settings = DemoSettings(events, seed, rate, yes_use_these_servers, keep)
    console = Console(stderr=True)
    with Show(console) as show:
        try:
            result = run_demo(read_settings(), settings, show)
        except ChecksFailed as failed:
            result = failed.result
    if as_json:
        click.echo(msgspec.json.encode(result.figures))
    else:
        Console().print(table_of(result.figures))
    for line in lines_of(result.checks):
        (console if as_json else Console()).print(line, highlight=False)
    if not result.holds:
        raise SystemExit(1)
