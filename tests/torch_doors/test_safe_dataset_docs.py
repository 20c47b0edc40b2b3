"""The table of policies in the docs names every policy that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from datacheck.torch import SafeDataset

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "loader.md"

pytestmark = pytest.mark.torch


def test_the_policies_are_those_of_the_table() -> None:
    shown = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert shown == ["on_bad=", '"replace"', '"raise"', '"skip"', '("repair", "replace")']
    for policy in map(eval, shown[1:]):
        SafeDataset(TensorDataset(torch.zeros(3)), on_bad=policy, cleaning=[] if "repair" in policy else None)
