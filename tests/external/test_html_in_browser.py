"""Every page in a real browser: light, dark, narrow, printed, under a strict policy, and judged by axe."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

import datacheck
from datacheck.profile.distributions import distributions, distributions_of_run
from datacheck.profile.infer.infer import infer_with_notes
from datacheck.profile.infer.page import page_of_inference

axe_core = pytest.importorskip("axe_core_python", reason="axe is in the group test-integrations")
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium: apt-get install chromium")
#: What a careful server sends, Jenkins among them.
POLICY = "default-src 'none'; img-src 'none'; sandbox"


def browse(url: str, *options: str) -> str:
    """What headless Chromium prints."""
    assert BROWSER is not None
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrays with NaN and infinities, under names of which one is very long."""
    folder = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for split, shift in (("train", 0.0), ("test", 1.0)):
        (folder / split).mkdir()
        for number in range(3):
            values = generator.normal(shift, size=3_000)
            values[generator.random(3_000) < 0.01] = np.nan
            name = f"{'a-very-long-name-of-a-file-' * number}{number}.npz"
            kinds = {"kind": generator.integers(0, 5, 3_000), f"field_{'of_many_words_' * 8}": values}
            np.savez(folder / split / name, x=values, y=np.where(values > 2, np.inf, values), **kinds)
    return folder


def page_of_scan(data: Path) -> str:
    return datacheck.scan(data).to_html(distributions({"values": [str(data)]}))


def page_of_run(data: Path) -> str:
    pipeline = {
        "version": 1,
        "inputs": {split: str(data / split) for split in ("train", "test")},
        "clean": [
            {"action": "impute", "strategy": "mean", "codes": "DC101", "fields": ["x", "y"]},
            {"action": "drop_row", "codes": "DC102"},
        ],
        "fit": "train",
        "output": {"path": str(data.parent / "out")},
    }
    path = data.parent / "pipeline.yaml"
    path.write_text(json.dumps(pipeline), encoding="utf-8")
    report = datacheck.run(path)
    return report.to_html(distributions_of_run(report))


def page_of_comparison(data: Path) -> str:
    splits = {split: str(data / split) for split in ("train", "test")}
    return datacheck.compare(splits["train"], splits["test"]).to_html(distributions(splits))


def page_of_draft(data: Path) -> str:
    found = infer_with_notes([str(data)], with_list=True)
    return page_of_inference(found, distributions({"data": [str(data)]}))


def page_of_training(_: Path) -> str:
    torch = pytest.importorskip("torch")
    from datacheck.torch import Guard

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    guard = Guard(model, torch.optim.AdamW(model.parameters()), scaler=scaler, on_trip="skip")
    for step in range(60):
        batch = torch.randn(16, 8)
        batch[2, 3] = torch.nan if step in (30, 45) else 0.0
        guard.step(lambda model, batch: model(batch).square().mean(), batch)
    page = guard.report().to_html()
    assert "Loss scale by step" in page
    return page


PAGES = {
    "scan": page_of_scan,
    "run": page_of_run,
    "compare": page_of_comparison,
    "infer": page_of_draft,
    "guard": page_of_training,
    "nothing-found": lambda data: datacheck.scan(np.zeros((5, 2))).to_html(),
}


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, data: Path) -> Path:
    folder = data.parent / str(request.param)
    folder.mkdir()
    path = folder / "page.html"
    path.write_text(PAGES[request.param](data), encoding="utf-8")
    return path


def picture(page: Path, width: int, *options: str) -> np.ndarray:
    from PIL import Image

    target = page.parent / f"{width}.png"
    browse(page.as_uri(), f"--window-size={width},900", f"--screenshot={target}", *options)
    return np.asarray(Image.open(target).convert("RGB")).astype(int)


def test_it_is_light_or_dark_as_the_reader_likes(page: Path) -> None:
    light = picture(page, 1000)
    dark = picture(page, 1001, "--force-dark-mode", "--blink-settings=preferredColorScheme=0")
    assert light[0, 0].min() > 240
    assert dark[0, 0].max() < 60
    for shown in (light, dark):
        assert np.ptp(shown, axis=(0, 1)).min() > 100, "there is text on it"
        colored = (np.ptp(shown, axis=2) > 60).sum()
        assert colored > 300, "the verdict and the charts are seen"


@pytest.mark.parametrize("width", [360, 1280])
def test_it_needs_no_sideways_scrolling(page: Path, width: int) -> None:
    measured = with_script(page, "document.documentElement.scrollWidth + ' ' + window.innerWidth", width)
    content, window = map(int, measured.split())
    assert content <= window


def test_it_reads_where_scripts_and_styles_are_forbidden(page: Path) -> None:
    with served(page.parent) as address:
        shown = browse(f"{address}/page.html", "--dump-dom")
        target = page.parent / "policy.png"
        browse(f"{address}/page.html", "--window-size=1000,900", f"--screenshot={target}")
    assert "datacheck" in shown
    assert "<h2>" in shown
    from PIL import Image

    pixels = np.asarray(Image.open(target).convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=(0, 1)).min() > 100


def test_it_prints(page: Path) -> None:
    target = page.parent / "page.pdf"
    browse(page.as_uri(), f"--print-to-pdf={target}", "--no-pdf-header-footer")
    assert target.read_bytes().startswith(b"%PDF")
    assert target.stat().st_size > 10_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(page: Path, scheme: str) -> None:
    axe = (Path(axe_core.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    options = () if scheme == "light" else ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")
    code = "axe.run().then(r => { document.title = 'done'; OUT.textContent = JSON.stringify(r.violations) })"
    violations = json.loads(with_script(page, None, 1000, axe + ";\n" + code, *options))
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in violations] == []


def with_script(page: Path, expression: str | None, width: int, script: str = "", *options: str) -> str:
    """What a script, added to a copy of the page, finds."""
    code = script or f"OUT.textContent = {expression}"
    holder = "<pre id='out' hidden></pre>"
    added = f"{holder}<script>const OUT = document.getElementById('out');\n{code}</script></body>"
    copy = page.parent / "scripted.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", added), encoding="utf-8")
    dom = browse(copy.as_uri(), f"--window-size={width},900", "--virtual-time-budget=20000", "--dump-dom", *options)
    found = re.search(r'<pre id="out" hidden="">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    import html

    return html.unescape(found[1])


class served:  # noqa: N801 - reads as a statement
    """A folder on loopback under a strict Content-Security-Policy."""

    def __init__(self, folder: Path) -> None:
        class Handler(http.server.SimpleHTTPRequestHandler):
            def end_headers(self) -> None:
                self.send_header("Content-Security-Policy", POLICY)
                super().end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
        )

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
