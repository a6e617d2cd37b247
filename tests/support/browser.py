"""A page as Debian's chromium shows it: what its plots hold once all of them are drawn, and their colours."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

_READ_PLOTS: Final = """
<pre id="plots"></pre>
<script>
const waiting = setInterval(() => {
  const shown = window.Bokeh && Bokeh.documents[0];
  if (!shown || !shown.is_idle) return;
  clearInterval(waiting);
  const plots = {};
  for (const model of shown._all_models.values()) {
    if (model.type !== "Figure") continue;
    const data = model.renderers.map(one => one.data_source ? one.data_source.data : {});
    const series = data.map(one => Object.fromEntries(
      Array.from(one.entries ? one.entries() : Object.entries(one))
        .map(([name, values]) => [name, Array.from(values)])));
    const legend = Array.from(shown._all_models.values())
      .filter(one => one.type === "LegendItem" && one.renderers.some(r => model.renderers.includes(r)))
      .map(one => one.label && (one.label.value || one.label));
    plots[model.title.text] = {series, legend};
  }
  document.getElementById("plots").textContent = JSON.stringify(plots);
}, 200);
</script>
"""


def run_chromium(folder: Path, page: Path, *options: str) -> str:
    """Open a page in a browser without a screen, and return what it prints; skips where it is missing."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's package chromium")
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=20000",
            "--window-size=1000,2800",
            *options,
            page.as_uri(),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def colours_of(folder: Path, page: Path) -> set[tuple[int, int, int]]:
    """Return every colour of a page as it is drawn."""
    shot = folder / "page.png"
    run_chromium(folder, page, f"--screenshot={shot}")
    image = pytest.importorskip("PIL.Image", reason="needs pillow, which bokeh brings")
    with image.open(shot) as drawn:
        return {colour for _, colour in drawn.convert("RGB").getcolors(1 << 24)}


def plots_of(folder: Path, page: Path) -> dict[str, Any]:
    """Return the plots that the browser has drawn: title → the data of its series, and its legend."""
    copy = folder / "with-script.html"
    # The last one: bokeh's own script has the word in a text.
    before, end, after = page.read_text().rpartition("</body>")
    copy.write_text(f"{before}{_READ_PLOTS}{end}{after}")
    shown = run_chromium(folder, copy, "--dump-dom")
    found = re.search(r'<pre id="plots">(.*?)</pre>', shown, re.DOTALL)
    assert found is not None
    assert found[1], "the plots were not drawn in time"
    return dict(json.loads(html.unescape(found[1])))
