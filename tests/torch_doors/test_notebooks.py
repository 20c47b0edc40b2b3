"""What the doors of torch show of themselves in a notebook."""

from __future__ import annotations

import html
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from datacheck.torch import Guard, SafeDataset

pytestmark = pytest.mark.torch


class Log(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.relu(self.layer(x))).sum()  # <b> must stay text


def test_a_guard_shows_its_diagnoses() -> None:
    torch.manual_seed(0)
    model = Log()
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1), on_trip="skip")
    guard.step(lambda model, batch: model(batch), torch.randn(4, 4))
    report = guard.report()
    page = html.unescape(report._repr_html_())
    assert "datacheck guard" in page
    assert "log-of-zero-or-negative" in page
    assert "<dt>steps</dt><dd>1</dd>" in page
    (diagnosis, *_) = report.diagnoses
    shown = diagnosis._repr_html_()
    assert html.unescape(shown).count(diagnosis.headline) == 1
    assert "<b> must" not in shown
    assert len(report.to_pandas()) == len(report.findings)


def test_a_loader_shows_its_samples() -> None:
    values = torch.ones(300)
    values[7] = torch.nan
    safe = SafeDataset(TensorDataset(values))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        safe.check()
    page = html.unescape(safe.report()._repr_html_())
    assert "datacheck loader TensorDataset" in page
    assert "<dt>samples</dt><dd>300</dd>" in page
    assert "DC101" in page
    assert safe.report().to_arrow()["code"].to_pylist() == ["DC101"]
