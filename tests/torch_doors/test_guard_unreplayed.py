"""What the guard says where a replay of the last micro-batch alone does not show what happened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.torch import Guard, NonFiniteError  # noqa: E402

pytestmark = pytest.mark.torch

#: Its square is above the largest float32 only when it is added to itself.
LARGE = 2e38


def large_gradient(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return (model.weight * batch).sum() + 0.0 * model(torch.zeros(1, 2)).sum()


def accumulate_in_steps(model: nn.Module, optimizer: Any) -> None:
    guard = Guard(model, optimizer)
    for is_last in (False, True):
        guard.step(large_gradient, torch.full((1, 2), LARGE), update=is_last)


def accumulate_weighted(model: nn.Module, optimizer: Any) -> None:
    guard = Guard(model, optimizer, accumulation_steps=4)
    for _ in range(4):
        guard.step(lambda model, batch: 4 * large_gradient(model, batch), torch.full((1, 2), LARGE / 2))


def accumulate_in_a_loop(model: nn.Module, optimizer: Any) -> None:
    with Guard(model, optimizer):
        for batch in [torch.full((1, 2), LARGE)] * 2:
            large_gradient(model, batch).backward()
        optimizer.step()


@pytest.mark.parametrize("train", [accumulate_in_steps, accumulate_weighted, accumulate_in_a_loop])
def test_a_sum_of_finite_gradients_that_overflows_is_no_hardware_fault(train: Callable[..., None]) -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    with pytest.raises(NonFiniteError) as caught:
        train(model, torch.optim.SGD(model.parameters(), 0.1))
    found = caught.value.diagnosis
    assert (found.cause, found.phase, found.field) == ("overflow", "backward", "weight")
    assert "the gradients of each micro-batch are finite" in found.explanation
    assert "hardware" not in found.explanation


class Checked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.log())


def own_check(loss: torch.Tensor) -> torch.Tensor:
    value = loss.item()
    if value != value:
        raise ValueError("stopping here")
    return loss


def loss_of(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return own_check(model(batch).mean())


def run_steps(model: nn.Module, optimizer: Any, batch: torch.Tensor) -> None:
    with Guard(model, optimizer) as guard:
        guard.step(loss_of, batch)


def run_a_loop(model: nn.Module, optimizer: Any, batch: torch.Tensor) -> None:
    with Guard(model, optimizer):
        optimizer.zero_grad()
        loss = model(batch).mean()
        own_check(loss).backward()
        optimizer.step()


def run_a_loop_that_keeps_numbers(model: nn.Module, optimizer: Any, batch: torch.Tensor) -> None:
    with Guard(model, optimizer):
        optimizer.zero_grad()
        value = model(batch).mean().item()
        if value != value:
            raise ValueError("stopping here")


def run_as_a_trainer(model: nn.Module, optimizer: Any, batch: torch.Tensor) -> None:
    with Guard(model, optimizer) as guard:
        guard.begin(batch, lambda model, batch: model(batch).mean())
        own_check(model(batch).mean()).backward()


@pytest.mark.parametrize("run", [run_steps, run_a_loop, run_a_loop_that_keeps_numbers, run_as_a_trainer])
def test_an_own_check_without_a_telling_word_gets_the_diagnosis(run: Callable[..., None]) -> None:
    torch.manual_seed(0)
    model = Checked()
    with pytest.raises((NonFiniteError, ValueError)) as caught:
        run(model, torch.optim.SGD(model.parameters(), 0.1), torch.tensor([[-1.0, 2.0]]))
    error = caught.value
    text = str(error) + "".join(getattr(error, "__notes__", ()))
    assert "log-of-zero-or-negative" in text


def test_an_own_check_of_something_else_gets_none() -> None:
    model = Checked()

    def refuse() -> None:
        with Guard(model, torch.optim.SGD(model.parameters(), 0.1)):
            model(torch.ones(1, 2)).mean()
            raise ValueError("too late in the day")

    with pytest.raises(ValueError, match="too late") as caught:
        refuse()
    assert not hasattr(caught.value, "__notes__")


def test_backward_is_torchs_own_again_after_a_foreign_patch_is_taken_back() -> None:
    original = torch.autograd.backward
    model = nn.Linear(1, 1)
    guard = Guard(model, torch.optim.SGD(model.parameters(), 0.1))
    seen = torch.autograd.backward

    def foreign(*args: Any, **kwargs: Any) -> Any:
        return seen(*args, **kwargs)

    torch.autograd.backward = foreign
    try:
        guard.remove()
        assert torch.autograd.backward is foreign
    finally:
        torch.autograd.backward = seen
    model(torch.ones(1, 1)).sum().backward()
    assert torch.autograd.backward is original
    assert sys.modules["torch.autograd"].backward is original
