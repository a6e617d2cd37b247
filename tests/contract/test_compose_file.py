"""The Compose file is valid by the Compose Specification, and keeps the promises made of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from pitboss.workers import ALL_ROLES

SERVICES = re.compile(r"^services:\n(.*?)^volumes:", re.DOTALL | re.MULTILINE)
COMPOSE = Path(__file__).parents[2] / "infra" / "kafka-compose.yml"


def test_it_is_valid_by_the_compose_specification():
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(COMPOSE),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_names_kafka_without_zookeeper_postgresql_and_every_worker():
    text = COMPOSE.read_text()
    found = SERVICES.search(text)
    assert found is not None
    services = re.findall(r"^  (\w+):$", found[1], flags=re.MULTILINE)
    assert services == ["kafka", "postgres", "provision", *ALL_ROLES]
    assert "      KAFKA_PROCESS_ROLES: broker,controller\n" in text
    for role in ALL_ROLES:
        assert f'["python", "-m", "pitboss.workers", "{role}"]' in text


def test_ports_are_open_to_this_machine_only():
    ports = re.findall(r'^      - "(.*:\d+)"$', COMPOSE.read_text(), flags=re.MULTILINE)
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_can_be_replaced_where_no_registry_is_reached():
    images = re.findall(r"^\s+image: (.*)$", COMPOSE.read_text(), flags=re.MULTILINE)
    assert len(images) == 3
    assert all(re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:[\w.]+\}", image) for image in images)


def test_the_image_has_every_package_but_the_lab():
    root = COMPOSE.parents[1]
    packages = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    ignored = (root / "infra" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    assert {*packages["targets"]["wheel"]["packages"]} - copied == {"lab"}
