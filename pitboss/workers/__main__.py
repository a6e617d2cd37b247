"""The entry of a worker process: `python -m pitboss.workers ROLE`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from pitboss.embedded.free_space import disk_samples
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.shared_settings import adopt_stored
from pitboss.setting_files import configure_dialects, read_currencies
from pitboss.settings import StackSettings, read_settings, read_values, read_worker_settings
from pitboss.telemetry_settings import read_telemetry_settings
from pitboss.workers import ALL_ROLES, READS_RAW
from pitboss.workers.compose import compose
from runtime.kafka.app import PitbossApp
from runtime.kafka.process import MB, run_worker
from schemas.errors import UsageError
from schemas.money import configure_currencies


def _observe_disk(app: PitbossApp, settings: StackSettings) -> PitbossApp:
    """Show what is free on the disk of the home folder, where telemetry is on."""
    if app.telemetry is not None:
        app.telemetry.meters.add_source(partial(disk_samples, settings))
    return app


def main(arguments: Sequence[str]) -> int:
    """Run a role until a signal drains it or an error ends it.

    Returns the exit code.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        worker = read_worker_settings()
        telemetry = read_telemetry_settings()
        rss_max_mb: int = read_values()["worker_rss_max_mb"].value
    except UsageError as error:
        logging.getLogger(__name__).critical("%s: %s", error.code, error)
        return error.exit_code
    logging.getLogger().setLevel(worker.log_level)
    for library in ("aiokafka", "faust", "mode"):
        # They log each start of each of their services at INFO; a worker that works logs nothing.
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))
    if len(arguments) != 1 or arguments[0] not in ALL_ROLES:
        roles = ", ".join(ALL_ROLES)
        sys.stderr.write(f"usage: python -m pitboss.workers ROLE, one of {roles}\n")
        return UsageError.exit_code
    [role] = arguments

    async def create() -> PitbossApp:
        settings = read_settings()
        runtime = resolve_runtime(settings)
        configure_currencies(read_currencies(worker))
        configure_dialects(worker)
        shared = await adopt_stored(runtime, worker)
        if role not in READS_RAW:
            return _observe_disk(compose(role, runtime, shared, telemetry), settings)
        from pitboss.ops.raw_topics import resolve_raw_topics

        raw = await resolve_raw_topics(runtime, worker)
        if role == "normalise":
            from pitboss.workers.checks import check_unsigned

            check_unsigned(worker, raw.providers, are_ours=not settings.uses_given_servers)
        app = compose(role, runtime, replace(shared, providers=raw.providers), telemetry)
        return _observe_disk(app, settings)

    return run_worker(create, rss_max_bytes=rss_max_mb * MB)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
