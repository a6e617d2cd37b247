"""Kafka's jars: fetched once a machine from a Maven repository, checked, and kept in the cache."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from pitboss.embedded.errors import OWN_SERVERS, PartMissing
from pitboss.embedded.files import exclusive_lock

KAFKA_VERSION = "4.1.2"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:2.0.17"

FETCH_S = 300.0
"""Some 45 MB; a slow line gets this long while another command waits for the lock."""


def class_path(cache: Path, *, maven: str | None, progress: Callable[[str], None]) -> list[Path]:
    """Return Kafka's jars, fetching them if they are not in the cache. Raises PartMissing.

    jgo does not check what it downloads, so each jar is compared with the SHA-256 in
    `kafka_jars.sha256`. A folder is moved into place as a whole: an interrupted fetch leaves
    nothing that looks complete.
    """
    folder = jar_folder(cache)
    if not folder.is_dir():
        with exclusive_lock(
            cache / "kafka.lock",
            timeout_s=FETCH_S,
            on_wait=lambda: progress("another command fetches Kafka's jars; waiting for it"),
        ):
            if not folder.is_dir():
                source = source_name(maven)
                progress(f"fetching Kafka {KAFKA_VERSION} from {source} (once a machine)")
                _fetch(folder, maven)
    jars = [folder / name for name in sorted(checksums())]
    absent = [jar.name for jar in jars if not jar.is_file()]
    if absent:
        raise PartMissing(
            f"{folder} lacks {', '.join(absent[:3])}: remove that folder and run `pitboss up` again"
        )
    return jars


def jar_folder(cache: Path) -> Path:
    """Return where the jars of our version are, after they have been fetched."""
    return cache / f"kafka-{KAFKA_VERSION}"


def checksums() -> dict[str, str]:
    """Return the SHA-256 of each jar that Kafka consists of, by the jar's name."""
    lines = files("pitboss.embedded").joinpath("kafka_jars.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def source_name(maven: str | None) -> str:
    """Return the name of the repository that jars come from."""
    return maven or "Maven Central"


def _fetch(folder: Path, maven: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        source = source_name(maven)
        try:
            resolved = _resolve(Path(scratch), maven)
        except ImportError as error:
            raise PartMissing(
                f"jgo is not installed: pip install 'pitboss[embedded]', {OWN_SERVERS}"
            ) from error
        except Exception as error:  # jgo and the clients under it raise any error
            raise PartMissing(
                f"cannot fetch Kafka's jars from {source}: {error}. Check the network and "
                f"HTTPS_PROXY, name a mirror in PITBOSS_MAVEN, copy {folder} from a machine that "
                f"has it, {OWN_SERVERS}"
            ) from error
        complete = Path(scratch) / "complete"
        complete.mkdir()
        for name, digest in checksums().items():
            jar = resolved.get(name)
            found = hashlib.sha256(jar.read_bytes()).hexdigest() if jar else "nothing"
            if jar is None or found != digest:
                raise PartMissing(
                    f"{source} sent {found} for {name}, expected SHA-256 {digest}: a broken "
                    f"download or mirror. Try again, name another in PITBOSS_MAVEN, {OWN_SERVERS}"
                )
            shutil.copyfile(jar, complete / name)
        complete.rename(folder)


def _resolve(scratch: Path, maven: str | None) -> dict[str, Path]:
    from jgo.env import EnvironmentBuilder, LinkStrategy
    from jgo.maven import MavenContext

    context = MavenContext(
        repo_cache=scratch / "repository", remote_repos={"mirror": maven} if maven else None
    )
    builder = EnvironmentBuilder(
        context=context, cache_dir=scratch / "jgo", link_strategy=LinkStrategy.AUTO
    )
    environment = builder.from_endpoint(COORDINATES)
    # jgo keeps modular jars and others in two folders; the broker's class path needs both.
    return {
        jar.name: jar
        for folder in ("jars", "modules")
        for jar in (environment.path / folder).glob("*.jar")
    }
