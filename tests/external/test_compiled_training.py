"""The guard around models and steps that ``torch.compile`` has compiled with its own backend, which needs a C++ compiler."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.torch import Guard  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.nn.functional.softplus(self.second(torch.tanh(self.first(x)))) + x.sum(1, keepdim=True))


def batches() -> list[torch.Tensor]:
    found = [torch.rand(6, 4, generator=torch.Generator().manual_seed(step)) for step in range(4)]
    found[2][5] = -20.0
    return found


def make(*, compiled: bool) -> tuple[Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Model()
    return torch.compile(model) if compiled else model, torch.optim.AdamW(model.parameters(), 0.01)


def train(model: Any, optimizer: torch.optim.Optimizer, data: list[torch.Tensor], *, skipped: int | None = None) -> Any:
    for number, x in enumerate(data):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        if number != skipped:
            optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("watch", ["step", "layers"])
def test_a_compiled_model_trains_to_the_same_bits_and_its_bad_step_is_skipped(watch: Any) -> None:
    expected = train(*make(compiled=True), batches(), skipped=2)
    torch.compiler.reset()
    model, optimizer = make(compiled=True)
    with Guard(model, optimizer, on_trip="skip", watch=watch) as guard:
        weights = train(model, optimizer, batches())
    assert all(map(torch.equal, weights, expected))
    found = guard.last_diagnosis
    assert found is not None
    assert (found.step, found.cause, found.samples) == (3, "log-of-zero-or-negative", (5,))
    assert found.source is not None
    assert found.source.startswith("return torch.log")


def test_a_compiled_step_is_guarded_where_backward_and_update_are_inside() -> None:
    model, optimizer = make(compiled=False)
    guard = Guard(model, optimizer, on_trip="skip")

    @torch.compile
    def step(x: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    for x in batches():
        step(x)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert [finding.code for finding in guard.report().findings] == ["DC450", "DC402", "DC460"]
    assert guard.last_diagnosis is not None
    assert guard.last_diagnosis.lineno is not None
    assert guard.report().num_rows == 4
    guard.remove()
