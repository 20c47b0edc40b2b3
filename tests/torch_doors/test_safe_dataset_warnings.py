"""Warnings of the loader point at the user's line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

PROGRAM = """
import copy
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from datacheck.torch import SafeCollate, SafeDataset

values = torch.ones(8, 3)
values[2, 1] = torch.nan
safe = SafeDataset(TensorDataset(values), max_bad_fraction=1.0)
if __name__ == "__main__":
    {setup}
    for _ in {loop}:  # here
        pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "loop"),
    [
        ("", "(safe[index] for index in range(8))"),
        ("loader = DataLoader(safe, 4)", "loader"),
        ("loader = DataLoader(Subset(safe, range(8)), 4, collate_fn=SafeCollate())", "loader"),
        ("loader = DataLoader(ConcatDataset([safe, safe]), 4)", "loader"),
        ("loader = DataLoader(safe, 4, num_workers=1, multiprocessing_context='fork')", "loader"),
        ("loader = DataLoader(safe, 4, num_workers=1, multiprocessing_context='spawn')", "loader"),
        ("from rich.progress import track", "track(DataLoader(safe, 4))"),
        ("safe = copy.deepcopy(safe)", "DataLoader(safe, 4)"),
        ("", "[safe.check()]"),
    ],
)
def test_a_warning_points_at_the_line_that_asked_for_the_sample(tmp_path: Path, setup: str, loop: str) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM.format(setup=setup, loop=loop))
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60, check=True)
    line = 1 + program.read_text().splitlines().index(f"    for _ in {loop}:  # here")
    assert f"{program}:{line}: BadSampleWarning: " in done.stderr
