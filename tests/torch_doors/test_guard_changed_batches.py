"""Code that changes a batch in place before the loss is computed: what it made is not blamed on the data."""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from datacheck.torch import Guard, NonFiniteError  # noqa: E402

pytestmark = pytest.mark.torch


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=1e-3)


def standardise_(x: torch.Tensor) -> None:
    x.sub_(x.mean(1, keepdim=True)).div_(x.std(1, keepdim=True))  # BUG helper


def in_a_void_helper(model: Any, optimizer: Any, batches: Any) -> None:
    for b in batches:
        x = b["x"]
        standardise_(x)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def one_step(model: Any, optimizer: Any, batch: Any) -> None:
    optimizer.zero_grad()
    model(batch["x"]).square().mean().backward()
    optimizer.step()


def in_a_helper_above(model: Any, optimizer: Any, batches: Any) -> None:
    for b in batches:
        standardise_(b["x"])
        one_step(model, optimizer, b)


def by_the_target_itself(model: Any, optimizer: Any, batches: Any) -> None:
    for b in batches:
        x = b["x"].view(-1)
        standardise_(x.view(-1, 3))
        x = x.view(-1, 3) * 1.0
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


class InForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        standardise_(x)
        return self.layer(x)


def in_forward(model: Any, optimizer: Any, batches: Any) -> None:
    for b in batches:
        one_step(model, optimizer, b)


HELPERS = [in_a_void_helper, in_a_helper_above, by_the_target_itself, in_forward]


def samples_with(value: float, *, bad: int) -> list[dict[str, torch.Tensor]]:
    samples = [{"x": torch.rand(3)} for _ in range(12)]
    samples[bad]["x"][:] = value
    return samples


@pytest.mark.parametrize("loop", HELPERS)
@pytest.mark.parametrize(
    ("value", "bad", "kind", "cause"),
    [
        (0.0, 1, "loader", "division-by-zero"),
        (0.0, 9, "loader", "division-by-zero"),
        (math.nan, 9, "loader", "input-not-finite"),
        (0.0, 9, "list", "unknown"),
    ],
)
def test_a_helper_that_makes_a_batch_bad_in_place_is_told_from_a_bad_batch(
    loop: Callable[..., None], value: float, bad: int, kind: str, cause: str
) -> None:
    model, optimizer = make()
    if loop is in_forward:
        model = InForward()
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        cause = "division-by-zero" if cause == "unknown" else cause
    batches: Any = DataLoader(samples_with(value, bad=bad), batch_size=4)  # type: ignore[arg-type]
    if kind == "list":
        batches = list(batches)
    with pytest.raises(NonFiniteError) as caught, Guard(model, optimizer):
        loop(model, optimizer, batches)
    found = caught.value.diagnosis
    assert found.cause == cause, str(found)
    if cause == "division-by-zero":
        assert "# BUG helper" in linecache.getline(str(found.filename), found.lineno or 0)
        assert found.samples == (bad % 4,)
    if cause == "unknown":
        assert found.lineno is None
        assert "standardise_(" in found.explanation


def fetches(batches: Any) -> Any:
    for b in batches:
        b["x"].log_()
        yield b


@pytest.mark.parametrize(("value", "cause"), [(0.0, "unknown"), (math.nan, "input-not-finite")])
def test_a_batch_that_changes_before_the_loop_gets_it_is_not_blamed(value: float, cause: str) -> None:
    model, optimizer = make()
    loader = DataLoader(samples_with(value, bad=9), batch_size=4)  # type: ignore[arg-type]
    with pytest.raises(NonFiniteError) as caught, Guard(model, optimizer):
        in_forward(model, optimizer, fetches(loader))
    found = caught.value.diagnosis
    assert found.cause == cause, str(found)
    if cause == "unknown":
        assert "finite when the batch was fetched" in found.explanation


def standardised_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    standardise_(batch["x"])
    return model(batch["x"]).square().mean()  # type: ignore[no-any-return]


def test_a_step_whose_loss_function_changes_its_batch_is_replayed_from_the_values_before() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer)
    first, second, bad = DataLoader(samples_with(0.0, bad=9), batch_size=4)  # type: ignore[arg-type]
    guard.step(standardised_loss, first)
    guard.step(standardised_loss, second)
    with pytest.raises(NonFiniteError) as caught:
        guard.step(standardised_loss, bad)
    found = caught.value.diagnosis
    assert (found.cause, found.samples) == ("division-by-zero", (1,)), str(found)
