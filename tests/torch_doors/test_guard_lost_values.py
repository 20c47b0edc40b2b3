"""With ``watch="layers"`` a guard reports what half precision loses in a step that is finite."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.findings import Severity  # noqa: E402
from datacheck.torch import Guard  # noqa: E402

pytestmark = pytest.mark.torch


class HalfNorm(nn.Module):
    def __init__(self, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.eps, self.dtype = eps, dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.dtype)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


class Net(nn.Module):
    def __init__(self, eps: float = 1e-3, dtype: torch.dtype = torch.float16) -> None:
        super().__init__()
        self.norm = HalfNorm(eps, dtype)
        self.last = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(x).float() * self.norm.weight)


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x).square().mean()


def run(way: str, model: nn.Module, batches: list[torch.Tensor], **options: Any) -> Guard:
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    guard = Guard(model, optimizer, watch="layers", **options)
    for x in batches:
        if way == "step":
            guard.step(loss_of, x)
        else:
            optimizer.zero_grad()
            loss_of(model, x).backward()
            optimizer.step()
    return guard


@pytest.mark.parametrize("way", ["step", "loop"])
def test_an_infinity_that_is_divided_away_is_reported_with_its_line(way: str) -> None:
    guard = run(way, Net(), [torch.full((2, 4), 300.0)])
    (finding,) = guard.report().findings
    assert (finding.code, finding.severity) == ("DC005", Severity.WARNING)
    assert "pow overflows float16 to infinity, and rsqrt turns that into 0" in finding.detail
    assert (finding.field or "").endswith("test_guard_lost_values.py:27 in norm")


def test_it_is_found_in_the_step_in_which_it_begins() -> None:
    guard = run("loop", Net(), [torch.ones(2, 4), torch.ones(2, 4), torch.full((2, 4), 300.0)])
    assert len(guard.report().findings) == 1


@pytest.mark.parametrize("way", ["step", "loop"])
def test_an_epsilon_that_rounds_to_zero_is_reported(way: str) -> None:
    guard = run(way, Net(eps=1e-8), [torch.ones(2, 4)])
    (finding,) = guard.report().findings
    assert "eps 1e-08 rounds to 0 in float16" in finding.detail


@pytest.mark.parametrize("way", ["step", "loop"])
def test_nothing_is_reported_where_nothing_is_lost(way: str) -> None:
    for model, x in ((Net(), torch.ones(2, 4)), (Net(1e-8, torch.float32), torch.full((2, 4), 300.0))):
        assert not run(way, model, [x] * 3).report().findings


def test_the_search_changes_no_weight() -> None:
    weights = []
    for guarded in (False, True):
        torch.manual_seed(0)
        model = Net()
        if guarded:
            run("loop", model, [torch.full((2, 4), 300.0), torch.ones(2, 4)])
        else:
            optimizer = torch.optim.SGD(model.parameters(), 0.01)
            for x in (torch.full((2, 4), 300.0), torch.ones(2, 4)):
                optimizer.zero_grad()
                loss_of(model, x).backward()
                optimizer.step()
        weights.append([parameter.tolist() for parameter in model.parameters()])
    assert weights[0] == weights[1]
