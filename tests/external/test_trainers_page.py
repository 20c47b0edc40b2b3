"""The examples of docs/trainers.md, run from top to bottom with the real packages."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "trainers.md"
#: A Python block and, where it follows at once, what it prints.
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
#: What a block needs, by a word in it.
NEEDS = {"ignite": "ignite", "monai": "monai", "skorch": "skorch"}

pytestmark = pytest.mark.filterwarnings("default")


def blocks() -> list[tuple[str, str]]:
    return [(source, shown or "") for source, shown in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


def guard_in(names: dict[str, Any]) -> Any:
    net = names.get("net")
    return names["guard"] if net is None else net.callbacks[0].guard


@pytest.mark.parametrize("number", range(1, len(blocks())))
def test_each_example_runs_and_its_guard_skips_the_one_bad_step(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, (source, shown) = blocks()[0][0], blocks()[number]
    for word, package in NEEDS.items():
        if word in source:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pytest.importorskip(package)
    names: dict[str, Any] = {}
    exec(compile(first, str(PAGE), "exec"), names)
    exec(compile(source, str(PAGE), "exec"), names)
    assert capsys.readouterr().out.splitlines()[-len(shown.splitlines()) :] == shown.splitlines() or not shown
    report = guard_in(names).report()
    assert [finding.rule for finding in report.findings if finding.code == "DC460"] == ["skip"]
    assert report.num_rows == 4
    assert not guard_in(names).is_attached
    model = names["net"].module_ if "net" in names else names["model"]
    assert all(parameter.isfinite().all() for parameter in model.parameters())
