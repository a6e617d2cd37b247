"""A real Prometheus that scrapes workers, on the rules of this project."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pitboss.embedded.ports import choose_port


@dataclass
class Prometheus:
    """A running Prometheus."""

    port: int
    targets_file: Path

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the series of an instant query that have a number; none while it starts."""
        query = urllib.parse.urlencode({"query": text})
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{query}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it starts
                return []
            raise AssertionError(f"{text}: {error.read().decode()}") from error
        except OSError:
            return []
        return [one for one in found["data"]["result"] if one["value"][1] != "NaN"]

    def firing(self, alert: str = "", labels: str = "") -> list[dict[str, str]]:
        """Return the labels of the alerts that fire, of one name and with further matchers, or all."""
        named = f',alertname="{alert}"' if alert else ""
        more = f",{labels}" if labels else ""
        return [one["metric"] for one in self.query(f'ALERTS{{alertstate="firing"{named}{more}}}')]

    def scrape(self, ports: Mapping[str, tuple[str, int]]) -> None:
        """Scrape these from now on: name to role and port. The series of others end at once."""
        rows = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"role": role}}
            for role, port in ports.values()
        ]
        fresh = self.targets_file.with_suffix(".new")
        fresh.write_text(json.dumps(rows))
        fresh.replace(self.targets_file)


@contextmanager
def run_prometheus(
    folder: Path, ports: Mapping[str, int], rules: dict[str, Any], interval: str = "1s"
) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes workers, role to port; skips where Debian's package is missing."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("needs Debian's package prometheus")
    made = Prometheus(choose_port(), folder / "targets.json")
    made.scrape({role: (role, port) for role, port in ports.items()})
    rule_file, config_file = folder / "alerts.json", folder / "prometheus.json"
    rule_file.write_text(json.dumps(rules))
    discovery = [{"files": [str(made.targets_file)], "refresh_interval": "1s"}]
    config = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(rule_file)],
        "scrape_configs": [{"job_name": "pitboss", "file_sd_configs": discovery}],
    }
    config_file.write_text(json.dumps(config))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={config_file}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{made.port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield made
        finally:
            process.terminate()
            process.wait(30)
