"""Numbers that are read one step later: the host waits for nothing, and a bad update is left out all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from benchmarks.guard_device import VIEWS, WAITS, count_operations  # noqa: E402
from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import Guard, NonFiniteError  # noqa: E402
from datacheck.torch.guard import loop_hooks  # noqa: E402
from datacheck.torch.guard.actions import Rollback  # noqa: E402

pytestmark = pytest.mark.torch

BAD = 3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.first(x)).relu())


def batches(number: int = 6, bad: int = -1) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for position in range(number):
        x = torch.rand(5, 4, generator=generator) + 0.1
        if position == bad:
            x[2, 1] = -1.0
        yield x


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(x.log()).square().mean()


Optimizers = Callable[[Any], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizers] = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, 0.05, fused=True),
    "SGD": lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, fused=True),
}


def run(
    way: str, optimizer: str = "AdamW", *, bad: int = -1, leave_out: int = -1, **options: Any
) -> tuple[nn.Module, Guard | None]:
    torch.manual_seed(0)
    model = Net()
    chosen = OPTIMIZERS[optimizer](model.parameters())
    guard = None if way == "plain" else Guard(model, chosen, defer=True, **options)
    given = [batch for position, batch in enumerate(batches(bad=bad)) if position != leave_out]
    if way == "step":
        assert guard is not None
        with guard:
            for batch in given:
                guard.step(loss_of, batch)
        return model, guard
    with guard or torch.enable_grad():
        for batch in given:
            chosen.zero_grad()
            loss_of(model, batch).backward()
            chosen.step()
    return model, guard


def weights(model: nn.Module) -> list[Any]:
    return [parameter.tolist() for parameter in model.parameters()]


WAYS = pytest.mark.parametrize("way", ["step", "loop"])


@WAYS
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_are_bit_for_bit_those_without_a_guard(way: str, optimizer: str) -> None:
    plain, _ = run("plain", optimizer)
    guarded, guard = run(way, optimizer)
    assert weights(guarded) == weights(plain)
    assert torch.equal(guarded.norm.running_mean, plain.norm.running_mean)
    assert guard is not None
    assert guard.report().ok
    assert len(guard.history.losses) == 6


@WAYS
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bad_update_is_left_out_and_named_one_step_later(way: str, optimizer: str) -> None:
    expected, _ = run("plain", optimizer, leave_out=BAD)
    skipped, guard = run(way, optimizer, bad=BAD, on_trip="skip")
    assert weights(skipped) == weights(expected)
    assert bool(skipped.norm.running_mean.isfinite().all())
    assert guard is not None
    trip = guard.report().findings[0]
    assert (trip.code, trip.uri) == ("DC450", f"step {BAD + 1}")
    assert "left out on the device" in trip.detail
    assert guard.last_diagnosis is not None
    assert (guard.last_diagnosis.cause, guard.last_diagnosis.samples) == ("log-of-zero-or-negative", (2,))
    assert guard.last_diagnosis.step == BAD + 1


@WAYS
def test_training_stops_before_the_next_update(way: str) -> None:
    with pytest.raises(NonFiniteError) as caught:
        run(way, bad=BAD)
    assert caught.value.diagnosis.step == BAD + 1
    assert caught.value.diagnosis.cause == "log-of-zero-or-negative"


@WAYS
def test_a_bad_last_step_is_found_at_the_end(way: str) -> None:
    with pytest.raises(NonFiniteError) as caught:
        run(way, bad=5)
    assert (caught.value.diagnosis.step, caught.value.diagnosis.samples) == (6, (2,))


@WAYS
def test_going_back_leaves_out_the_update_of_the_weights_that_are_gone(way: str) -> None:
    model, guard = run(way, bad=BAD, on_trip=Rollback(every_n_steps=1))
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert guard is not None
    assert [finding.rule for finding in guard.report().findings if finding.code == "DC460"] == ["rollback"]


def test_the_host_waits_for_nothing_and_the_kernels_are_few() -> None:
    plain, guarded = count_operations(guarded=False), count_operations(guarded=True)
    assert sum(guarded[name] for name in WAITS) == 0
    added = guarded - plain
    assert sum(number for name, number in added.items() if name not in VIEWS) <= 30, added


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (lambda parameters: torch.optim.AdamW(parameters), {}),
        (OPTIMIZERS["AdamW"], {"loss_spike": 10}),
        (OPTIMIZERS["AdamW"], {"on_trip": "clip"}),
        (OPTIMIZERS["AdamW"], {"on_trip": "warn"}),
    ],
)
def test_what_cannot_be_decided_on_the_device_is_refused(optimizer: Optimizers, options: dict[str, Any]) -> None:
    model = Net()
    guard = Guard(model, optimizer(model.parameters()), defer=True, **options)
    with pytest.raises(UsageError, match="fused=True"):
        guard.step(loss_of, next(batches()))


def test_gradients_of_any_size_and_scale_are_judged_exactly() -> None:
    for value, trips in ((1e30, False), (float("inf"), True)):
        model = nn.ParameterDict({"empty": torch.zeros(0), "large": torch.zeros(3)})
        optimizer = OPTIMIZERS["SGD"](model.parameters())
        with Guard(model, optimizer, defer=True, on_trip="skip") as guard:
            model["empty"].grad, model["large"].grad = torch.zeros(0), torch.tensor([0.0, value, 1.0])
            optimizer.step()
        assert bool((model["large"] == 0).all()) is trips
        assert [one.code for one in guard.report().findings][:1] == (["DC451"] if trips else [])


def test_a_step_that_a_cuda_graph_captures_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_hooks, "is_capturing", lambda: True)
    model = Net()
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    guard = Guard(model, optimizer)
    loss_of(model, next(batches(1, bad=0))).backward()
    optimizer.step()
    assert [finding.field for finding in guard.report().findings] == ["CUDA graphs"]
