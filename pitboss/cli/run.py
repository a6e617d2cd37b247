"""`pitboss run`: the workers, supervised."""

from __future__ import annotations

import signal
import time

import click

from pitboss.cli.suggestions import PROVIDER, NameChoice
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.provision import provision
from pitboss.settings import read_settings
from pitboss.workers import ROLES
from pitboss.workers.supervisor import Supervisor, workers_for


@click.command()
@click.argument("role", type=NameChoice([*ROLES, "all"]))
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes of each role.",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    type=PROVIDER,
    help="Create raw topics for this one only; may be repeated.",
)
def run(role: str, workers: int, providers: tuple[str, ...]) -> None:
    """Run workers and restart them when they end.

    Missing parts of the database, its tables and the topics are created first. SIGTERM or Ctrl-C
    drains the workers: records in progress are finished and committed.
    """
    settings = read_settings()
    runtime = resolve_runtime(settings)
    provision(runtime, providers=providers or None)
    roles = ROLES if role == "all" else (role,)
    supervisor = Supervisor(workers_for(roles, runtime, home=settings.home, each=workers), _report)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()


def _report(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)
