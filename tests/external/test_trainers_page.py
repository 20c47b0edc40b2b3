"""The examples of docs/trainers, run page by page with the real packages."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "trainers"
#: The Python block of a page and what it prints.
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
#: The page whose guards are in worker processes: what it prints is all that is seen of them.
IN_WORKERS = "ray-train"
#: The page whose model has NaN in a weight from the start.
NONFINITE_WEIGHTS = "trl"

#: What is true after each example, as JSON.
CHECKS = """
import json

guarded = getattr(guard, "guard", guard)
model = net.module_ if "net" in globals() else globals().get("model") or trainer.model
checks = {
    "actions": [finding.rule for finding in guarded.report().findings if finding.code == "DC460"],
    "steps": guarded.report().num_rows,
    "is_attached": guarded.is_attached,
    "weights_are_finite": all(bool(parameter.isfinite().all()) for parameter in model.parameters()),
}
print(json.dumps(checks))
"""


def examples() -> dict[str, tuple[str, str]]:
    found = {path.stem: EXAMPLE.search(path.read_text(encoding="utf-8")) for path in sorted(PAGES.glob("*.md"))}
    return {name: (match[1], match[2]) for name, match in found.items() if match}


def test_every_page_has_an_example_that_runs() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(examples())


@pytest.mark.parametrize("name", examples())
def test_each_example_runs_and_its_guard_skips_the_one_bad_step(name: str, tmp_path: Path) -> None:
    source, shown = examples()[name]
    packages = re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE)
    if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
        pytest.skip(f"needs {missing[0]}")
    is_seen = name != IN_WORKERS
    (tmp_path / "train.py").write_text(source + (CHECKS if is_seen else "print('{}')"), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # What torchrun gives to the only rank.
    rank = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": "0", "WORLD_SIZE": "1", "GLOO_SOCKET_IFNAME": "lo"}
    # Tests beside this one may have a Ray cluster, which an example would join.
    environment = {**os.environ, "RAY_ADDRESS": "local", **(rank if name == "distributed" else {})}
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    *printed, checked = done.stdout.splitlines()
    assert printed[-len(shown.splitlines()) :] == shown.splitlines()
    if not is_seen:
        return
    weights_are_finite = name != NONFINITE_WEIGHTS
    assert json.loads(checked) == {
        "actions": ["skip"],
        "steps": 4,
        "is_attached": False,
        "weights_are_finite": weights_are_finite,
    }
