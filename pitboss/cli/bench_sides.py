"""What a bench runs: the workers of this code or of another revision, in a namespace of theirs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab.bench.environments import RevisionBuild, build_revision
from lab.bench.processes import BenchFailed, ProcessCommand
from lab.sandbox.keys import SandboxKeys
from pitboss.cli.bench_environment import BenchRun, bench_namespace, with_lifeline
from pitboss.ops.provision import deprovision
from pitboss.settings import Runtime, runtime_of, worker_environment

REVISIONS_FOLDER = "bench-revisions"
"""Builds of other revisions, below the stack's folder; they are kept."""

_LOG_TAIL_LINES = 12


def build_base(opened: BenchRun, revision: str) -> RevisionBuild:
    """Build a revision to compare with, or find the build of an earlier run."""
    return build_revision(revision, opened.settings.home / REVISIONS_FOLDER, opened.progress.begin)


def write_keyring(keys: SandboxKeys, file: Path, providers: Collection[str] | None = None) -> Path:
    """Write the keys that a normaliser checks signatures with, of some providers or of all."""
    keyring = {
        provider: material
        for provider, material in keys.keyring().items()
        if providers is None or provider in providers
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(keyring), encoding="utf-8")
    return file


def worker_commands(
    opened: BenchRun,
    runtime: Runtime,
    roles: Collection[str],
    keyring: Path,
    *,
    build: RevisionBuild | None = None,
    taps: Mapping[str, Path] | None = None,
) -> dict[str, ProcessCommand]:
    """Return the worker of each role: of this code, or of a build. `taps` are opened by it."""
    environment = {
        **worker_environment(runtime),
        "PITBOSS_KEYS_FILE": str(keyring),
        "PITBOSS_LOG_LEVEL": "WARNING",
    }
    if build is not None:
        environment = build.environment(environment)
    commands = {}
    for role in roles:
        if build is not None:
            command = build.worker_command(role)
        elif taps is not None:
            command = with_lifeline("pitboss.workers.traced", str(taps[role]), role)
        else:
            command = with_lifeline("pitboss.workers", role)
        name = role if build is None else f"{build.commit}-{role}"
        commands[role] = ProcessCommand(command, environment, opened.folder / f"{name}.log")
    return commands


@contextmanager
def side_namespace(
    opened: BenchRun,
    suffix: str,
    *,
    build: RevisionBuild | None = None,
    partitions: int | None = None,
    providers: Collection[str] | None = None,
) -> Iterator[Runtime]:
    """Make a namespace as this code does, or as a build does; remove it afterwards."""
    servers, name = opened.servers, opened.name + suffix
    if build is None:
        with bench_namespace(servers, name, partitions=partitions, providers=providers) as runtime:
            yield runtime
        return
    runtime = runtime_of(servers.broker, servers.database_url, name)
    options = [] if partitions is None else ["--partitions", str(partitions)]
    for provider in providers or ():
        options += ["--provider", provider]
    try:
        _provision(build, runtime, options)
        yield runtime
    finally:
        deprovision(runtime)


def _provision(build: RevisionBuild, runtime: Runtime, options: list[str]) -> None:
    done = subprocess.run(  # noqa: S603 - a command of a revision of ours
        build.provision_command(options),
        env=build.environment(worker_environment(runtime)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.splitlines()[-_LOG_TAIL_LINES:]
        raise BenchFailed("\n  ".join([f"{build.commit} could not make its topics:", *lines]))
