"""A model that was saved whole while guarded is a plain torch model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.torch import Guard  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.slow
@pytest.mark.parametrize("is_copy", [False, True])
def test_a_model_saved_whole_while_guarded_loads_where_datacheck_is_not_installed(
    tmp_path: Path, run_python: Any, is_copy: bool
) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters())
    with Guard(model, optimizer, watch="layers"):
        model(torch.randn(8, 4)).mean().backward()
        optimizer.step()
        torch.save([copy.deepcopy(model)] if is_copy else [model, optimizer], tmp_path / "whole.pt")
    expected = model.eval()(torch.ones(2, 4)).tolist()
    run_python(f"""
import sys
sys.modules["datacheck"] = None  # importing it now fails
import torch
model, *optimizers = torch.load({str(tmp_path / "whole.pt")!r}, weights_only=False)
assert model.eval()(torch.ones(2, 4)).tolist() == {expected!r}
model.train()(torch.ones(2, 4)).sum().backward()
for optimizer in optimizers:
    optimizer.step()
""")
