"""One large update is the cause only where the step is finite with the weights from before it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.optim import SGD, Adam, AdamW  # noqa: E402

from datacheck.torch import Guard, NonFiniteError  # noqa: E402
from datacheck.torch.diagnosis.diagnosis import Diagnosis  # noqa: E402
from datacheck.torch.diagnosis.dynamics import History  # noqa: E402
from datacheck.torch.guard.last_update import undo_last_update  # noqa: E402

pytestmark = pytest.mark.torch

Batch = tuple[Tensor, Tensor]


class Rate(nn.Module):
    """The logarithm of a rate; with ``width``, from more weights than an update is measured by."""

    def __init__(self, width: int = 0) -> None:
        super().__init__()
        self.stem = nn.Linear(4, width) if width else nn.Identity()
        self.head = nn.Linear(width or 4, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.01 if width else 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x)).squeeze(-1)


def poisson(model: nn.Module, batch: Batch) -> Tensor:
    log_rate = model(batch[0])
    return (log_rate.exp() - batch[1] * log_rate).mean()


def batch_of(outlier: float | None = None) -> Batch:
    x = torch.rand(8, 4, generator=torch.Generator().manual_seed(1))
    if outlier is not None:
        x[2] = outlier
    return x, torch.full((8,), 20.0)


def run_step(model: nn.Module, optimizer: Any, guard: Guard, batch: Batch) -> None:
    guard.step(poisson, batch)


def run_loop(model: nn.Module, optimizer: Any, guard: Guard, batch: Batch) -> None:
    optimizer.zero_grad()
    log_rate = model(batch[0])
    loss = (log_rate.exp() - batch[1] * log_rate).mean()
    loss.backward()
    optimizer.step()


def stop(model: nn.Module, optimizer: Any, run: Callable[..., None], last: Batch) -> tuple[Diagnosis, list[Tensor]]:
    """The diagnosis of the second step, and the weights from before it."""
    guard = Guard(model, optimizer)
    weights: list[Tensor] = []

    def train() -> None:
        with guard:
            run(model, optimizer, guard, batch_of())
            weights.extend(parameter.detach().clone() for parameter in model.parameters())
            run(model, optimizer, guard, last)

    with pytest.raises(NonFiniteError) as caught:
        train()
    return caught.value.diagnosis, weights


OPTIMIZERS: dict[str, tuple[int, Callable[..., Any]]] = {
    "SGD, all weights sampled": (0, partial(SGD, lr=1.0)),
    "SGD with momentum": (2048, partial(SGD, lr=0.1, momentum=0.9, weight_decay=0.1)),
    "Adam": (2048, partial(Adam, lr=0.03, amsgrad=True)),
    "AdamW": (2048, partial(AdamW, lr=0.03, weight_decay=0.1)),
}


@pytest.mark.parametrize("run", [run_step, run_loop])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_sample_that_overflows_with_the_weights_before_a_large_update_is_the_cause(
    name: str, run: Callable[..., None]
) -> None:
    width, make = OPTIMIZERS[name]
    model = Rate(width)
    found, weights = stop(model, make(model.parameters()), run, batch_of(outlier=1e6))
    assert (found.cause, found.samples) == ("exp-overflow", (2,))
    assert "an update changed the weights by" in found.explanation
    assert "with the weights from before that update, this step is non-finite too" in found.explanation
    assert all(map(torch.equal, model.parameters(), weights))


@pytest.mark.parametrize("run", [run_step, run_loop])
def test_an_update_without_which_the_step_is_finite_is_the_cause(run: Callable[..., None]) -> None:
    model = Rate()
    found, weights = stop(model, SGD(model.parameters(), lr=1e3), run, batch_of())
    assert (found.cause, found.samples) == ("learning-rate-too-high", ())
    assert "with the weights from before that update, this step is finite" in found.explanation
    assert all(map(torch.equal, model.parameters(), weights))


def test_an_update_that_cannot_be_undone_is_mentioned_and_not_the_cause() -> None:
    model = Rate(2048)
    found, _ = stop(model, SGD(model.parameters(), lr=0.1), run_step, batch_of(outlier=1e6))
    assert (found.cause, found.samples) == ("exp-overflow", (2,))
    assert "whether this step is finite with the weights from before that update is not known" in found.explanation


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_undone_updates_have_the_weights_from_before(name: str) -> None:
    width, make = OPTIMIZERS[name]
    model = Rate(width)
    optimizer = make(model.parameters(), lr=1e-3)
    guard = Guard(model, optimizer)
    before: list[Tensor] = []
    for _ in range(5):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        guard.step(poisson, batch_of())
    now = [parameter.detach().clone() for parameter in model.parameters()]
    history, sample = guard.history, guard._runner.monitor.updates.sample
    for group in optimizer.param_groups:
        group["lr"] *= 0.5  # a schedule, after the update
    with undo_last_update(guard._runner.training, history, sample) as is_undone:
        assert is_undone
        for parameter, then in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(parameter.detach(), then, rtol=1e-4, atol=1e-6)
    assert all(map(torch.equal, model.parameters(), now))
    if width:
        other = History((), (), [7.0], history.learning_rates[-1:])
        with undo_last_update(guard._runner.training, other, sample) as is_undone:
            assert not is_undone
