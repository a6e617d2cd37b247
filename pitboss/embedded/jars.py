"""Kafka's jars: fetched once a machine from a Maven repository, checked, and kept in the cache."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from pitboss.embedded.errors import OWN_SERVERS, PartMissing
from pitboss.embedded.files import exclusive_lock

KAFKA_VERSION = "4.1.2"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:2.0.17"

FETCH_S = 300.0
"""Some 45 MB; a slow line gets this long while another command waits for the lock."""


@dataclass(frozen=True)
class JarSet:
    """Jars that are fetched together, from what some Maven coordinates resolve to."""

    title: str
    folder: str
    """Its name below the cache."""
    coordinates: str
    checksums: Traversable
    """File with the SHA-256 and the name of each jar that is kept, as `sha256sum` prints them."""

    def read_checksums(self) -> dict[str, str]:
        """Return the SHA-256 of each jar, by the jar's name."""
        lines = self.checksums.read_text(encoding="utf-8").splitlines()
        return {name: digest for digest, name in (line.split() for line in lines)}


KAFKA = JarSet(
    f"Kafka {KAFKA_VERSION}",
    f"kafka-{KAFKA_VERSION}",
    COORDINATES,
    files("pitboss.embedded").joinpath("kafka_jars.sha256"),
)


def class_path(
    cache: Path,
    *,
    maven: str | None,
    progress: Callable[[str], None],
    jar_set: JarSet = KAFKA,
) -> list[Path]:
    """Return the jars, fetching them if they are not in the cache. Raises PartMissing.

    jgo does not check what it downloads, so each jar is compared with its SHA-256. A folder is
    moved into place as a whole: an interrupted fetch leaves nothing that looks complete.
    """
    folder = cache / jar_set.folder
    if not folder.is_dir():
        with exclusive_lock(
            cache / "kafka.lock",
            timeout_s=FETCH_S,
            on_wait=lambda: progress("another command fetches jars; waiting for it"),
        ):
            if not folder.is_dir():
                source = source_name(maven)
                progress(f"fetching {jar_set.title} from {source} (once a machine)")
                _fetch(folder, maven, jar_set)
    jars = [folder / name for name in sorted(jar_set.read_checksums())]
    absent = [jar.name for jar in jars if not jar.is_file()]
    if absent:
        raise PartMissing(
            f"{folder} lacks {', '.join(absent[:3])}: remove that folder and run the command again"
        )
    return jars


def jar_folder(cache: Path) -> Path:
    """Return where the jars of our version are, after they have been fetched."""
    return cache / KAFKA.folder


def checksums() -> dict[str, str]:
    """Return the SHA-256 of each jar that Kafka consists of, by the jar's name."""
    return KAFKA.read_checksums()


def source_name(maven: str | None) -> str:
    """Return the name of the repository that jars come from."""
    return maven or "Maven Central"


def _fetch(folder: Path, maven: str | None, jar_set: JarSet) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        source = source_name(maven)
        try:
            resolved = _resolve(Path(scratch), maven, jar_set.coordinates)
        except ImportError as error:
            raise PartMissing(
                f"jgo is not installed: pip install 'pitboss[embedded]', {OWN_SERVERS}"
            ) from error
        except Exception as error:  # jgo and the clients under it raise any error
            raise PartMissing(
                f"cannot fetch {jar_set.title} from {source}: {error}. Check the network and "
                f"HTTPS_PROXY, name a mirror in PITBOSS_MAVEN, copy {folder} from a machine that "
                f"has it, {OWN_SERVERS}"
            ) from error
        complete = Path(scratch) / "complete"
        complete.mkdir()
        for name, digest in jar_set.read_checksums().items():
            jar = resolved.get(name)
            found = hashlib.sha256(jar.read_bytes()).hexdigest() if jar else "nothing"
            if jar is None or found != digest:
                raise PartMissing(
                    f"{source} sent {found} for {name}, expected SHA-256 {digest}: a broken "
                    f"download or mirror. Try again, name another in PITBOSS_MAVEN, {OWN_SERVERS}"
                )
            shutil.copyfile(jar, complete / name)
        complete.rename(folder)


def _resolve(scratch: Path, maven: str | None, coordinates: str) -> dict[str, Path]:
    from jgo.env import EnvironmentBuilder, LinkStrategy
    from jgo.maven import MavenContext

    context = MavenContext(
        repo_cache=scratch / "repository", remote_repos={"mirror": maven} if maven else None
    )
    builder = EnvironmentBuilder(
        context=context, cache_dir=scratch / "jgo", link_strategy=LinkStrategy.AUTO
    )
    environment = builder.from_endpoint(coordinates)
    # jgo keeps modular jars and others in two folders; the broker's class path needs both.
    return {
        jar.name: jar
        for folder in ("jars", "modules")
        for jar in (environment.path / folder).glob("*.jar")
    }
