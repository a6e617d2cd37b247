"""The Compose file is valid by the Compose Specification, and keeps the promises made of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

COMPOSE = Path(__file__).parents[2] / "infra" / "kafka-compose.yml"


def test_it_is_valid_by_the_compose_specification():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ports_are_open_to_this_machine_only():
    ports = re.findall(r'^      - "(.*:\d+)"$', COMPOSE.read_text(), flags=re.MULTILINE)
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_can_be_replaced_where_no_registry_is_reached():
    images = re.findall(r"^\s+image: (.*)$", COMPOSE.read_text(), flags=re.MULTILINE)
    assert len(images) == 3
    assert all(re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:[\w.]+\}", image) for image in images)
