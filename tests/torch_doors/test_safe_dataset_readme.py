"""The README's section on the loader does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from datacheck.torch import SafeDataset

README = Path(__file__).resolve().parent.parent.parent / "README.md"

pytestmark = [
    pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


def blocks() -> list[tuple[str, str]]:
    """The fenced blocks of the section: language and text."""
    section = README.read_text().partition("## Loader\n")[2].partition("\n## ")[0]
    return re.findall(r"^```(\w*)\n(.*?)^```$", section, re.M | re.S)


@pytest.fixture
def ds() -> TensorDataset:
    images, labels = torch.rand(1000, 4), torch.arange(1000) % 3
    images[17, 2] = torch.nan
    labels[99] = 3
    return TensorDataset(images, labels)


def test_the_code_runs_and_prints_what_is_shown(
    ds: TensorDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = [text for language, text in blocks() if language == "python"]
    (shown,) = (text for language, text in blocks() if not language)
    names: dict[str, Any] = {"ds": ds}
    exec(code[0], names)
    assert capsys.readouterr().out.startswith(shown)
    exec(code[1], names)
    assert len(names["good"]) == 999
    assert "1,000 of 1,000 samples, 1 bad" in capsys.readouterr().err
    assert len(list(DataLoader(names["good"], batch_size=100))) == 10
    assert (tmp_path / "bad.json").exists()


def test_the_policies_are_those_of_the_table(ds: TensorDataset) -> None:
    section = README.read_text().partition("## Loader\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(.+?)` \|", section, re.M)
    assert told == ["on_bad=", '"replace"', '"raise"', '"skip"', '("repair", "replace")']
    for policy in map(eval, told[1:]):
        SafeDataset(ds, on_bad=policy, cleaning=[] if "repair" in policy else None)
