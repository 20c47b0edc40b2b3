"""The actions of a guard: skip, clip, reduce the learning rate, roll back, ask a function, and combinations."""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import Guard, NonFiniteError  # noqa: E402
from datacheck.torch.guard.actions import Clip, GuardWarning, ReduceLR, Rollback, Skip, Warn  # noqa: E402
from datacheck.torch.guard.history import SpikeDetector  # noqa: E402

pytestmark = pytest.mark.torch

Batch = tuple[torch.Tensor, torch.Tensor]


def make(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)


def mean_squares(model: nn.Module, batch: Batch) -> torch.Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def good(number: int, seed: int = 5) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        yield torch.randn(8, 4, generator=generator), torch.randn(8, 2, generator=generator)


def bad() -> Batch:
    x, y = next(good(1, seed=8))
    x[1, 1] = float("nan")
    return x, y


def large(factor: float = 1e4) -> Batch:
    x, y = next(good(1, seed=8))
    return x, y * factor


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    tensors = [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]
    for state in optimizer.state.values():
        tensors += [value.clone() for value in state.values()]
    return tensors


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def finite(model: nn.Module, optimizer: torch.optim.Optimizer) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in state_of(model, optimizer))


def feed(guard: Guard, many: Iterable[Batch]) -> None:
    for batch in many:
        guard.step(mean_squares, batch)


def loop(model: nn.Module, optimizer: torch.optim.Optimizer, many: Iterable[Batch]) -> None:
    for batch in many:
        optimizer.zero_grad()
        mean_squares(model, batch).backward()
        optimizer.step()


def acts(guard: Guard) -> list[str]:
    return [finding.rule or "" for finding in guard.report().findings if finding.code == "DC460"]


@pytest.mark.parametrize("mode", ["step", "loop"])
def test_a_skipped_step_leaves_no_trace(mode: str) -> None:
    model, optimizer = make()
    plain_model, plain_optimizer = make()
    guard = Guard(model, optimizer, on_trip="skip")
    with_bad = [*good(3), bad(), *good(3, seed=6), bad()]
    if mode == "step":
        feed(guard, with_bad)
    else:
        loop(model, optimizer, with_bad)
    loop(plain_model, plain_optimizer, [*good(3), *good(3, seed=6)])
    assert same(state_of(model, optimizer), state_of(plain_model, plain_optimizer))
    assert acts(guard) == ["skip", "skip"]
    assert not guard.report().ok


def test_gradients_are_restored_after_a_skipped_update_in_a_loop() -> None:
    model, optimizer = make()
    Guard(model, optimizer, on_trip="skip")
    loop(model, optimizer, [bad()])
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_skip_does_not_change_counters_in_the_optimizer_groups() -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                group["k"] = group.get("k", 0) + 1
            return super().step(closure)

    model, _ = make()
    optimizer = Counting(model.parameters(), lr=0.1)
    Guard(model, optimizer, on_trip="skip")
    loop(model, optimizer, [*good(2), bad(), *good(1)])
    assert optimizer.param_groups[0]["k"] == 3


def test_skips_in_a_row_are_bounded() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip="skip", max_skips=3)
    feed(guard, [bad(), bad(), next(good(1)), bad(), bad(), bad()])
    with pytest.raises(NonFiniteError) as caught:
        guard.step(mean_squares, bad())
    assert caught.value.diagnosis.samples == (1,)
    assert finite(model, optimizer)


def test_a_scheduler_does_not_complain_about_a_first_step_that_was_skipped() -> None:
    model, optimizer = make()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    guard = Guard(model, optimizer, on_trip="skip", scheduler=scheduler)
    guard.step(mean_squares, bad())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()


def test_warn_changes_nothing() -> None:
    model, optimizer = make()
    plain_model, plain_optimizer = make()
    Guard(model, optimizer, on_trip="warn")
    with pytest.warns(GuardWarning, match="step 3: DC450"):
        loop(model, optimizer, [*good(2), bad()])
    loop(plain_model, plain_optimizer, [*good(2), bad()])
    first, second = state_of(model, optimizer), state_of(plain_model, plain_optimizer)
    assert all(torch.equal(a.nan_to_num(3), b.nan_to_num(3)) for a, b in zip(first, second, strict=True))
    assert not finite(model, optimizer)


def test_warn_and_skip_combine() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip=("warn", "skip"))
    with pytest.warns(GuardWarning):
        guard.step(mean_squares, bad())
    assert finite(model, optimizer)
    assert acts(guard) == ["warn", "skip"]


def gradients_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_clip_updates_with_finite_values_up_to_the_norm() -> None:
    model, _ = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    guard = Guard(model, optimizer, on_trip=Clip(max_norm=0.25))
    loop(model, optimizer, good(1))
    before = state_of(model, optimizer)
    optimizer.zero_grad()
    mean_squares(model, next(good(1))).backward()
    weight = model[0].weight
    assert weight.grad is not None
    weight.grad[0, 0], weight.grad[1, 1] = float("nan"), float("inf")
    optimizer.step()
    assert finite(model, optimizer)
    moved = [(a - b).norm() for a, b in zip(before[:6], state_of(model, optimizer)[:6], strict=True)]
    assert math.hypot(*map(float, moved)) == pytest.approx(0.25, rel=1e-4)
    assert "2 non-finite gradient values set to 0" in guard.report().findings[-1].detail


def test_clip_by_value() -> None:
    model, _ = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    Guard(model, optimizer, on_trip=Clip(max_value=0.01))
    optimizer.zero_grad()
    mean_squares(model, large()).backward()
    model[0].weight.grad[0, 0] = -float("inf")
    optimizer.step()
    gradients = gradients_of(model)
    assert float(gradients.abs().max()) == pytest.approx(0.01)
    assert gradients[0] == 0


def test_clip_skips_a_step_without_finite_gradients() -> None:
    model, optimizer = make()
    feed(Guard(model, optimizer), good(1))
    before = state_of(model, optimizer)
    guard = Guard(model, optimizer, on_trip="clip")
    guard.step(lambda model, batch: mean_squares(model, batch) * float("nan"), next(good(1)))
    assert same(before, state_of(model, optimizer))


def test_spikes_trip_only_on_request() -> None:
    for options, expected in (({}, []), ({"grad_spike": 8.0}, ["DC453"]), ({"loss_spike": 8.0}, ["DC452"])):
        model, optimizer = make()
        guard = Guard(model, optimizer, on_trip="skip", **options)
        feed(guard, [*good(40), large()])
        assert [f.code for f in guard.report().findings if f.code != "DC460"] == expected


def test_a_spike_is_clipped_and_the_update_made() -> None:
    model, _ = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    guard = Guard(model, optimizer, on_trip=Clip(max_norm=1.0), grad_spike=8.0)
    feed(guard, good(40))
    before = state_of(model, optimizer)
    guard.step(mean_squares, large())
    moved = [float((a - b).norm()) for a, b in zip(before[:6], state_of(model, optimizer)[:6], strict=True)]
    assert math.hypot(*moved) == pytest.approx(0.01, rel=1e-3)


def test_a_spike_that_raises_has_a_diagnosis() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, grad_spike=8.0)
    feed(guard, good(40))
    with pytest.raises(NonFiniteError) as caught:
        guard.step(mean_squares, large(1e6))
    assert caught.value.diagnosis.cause == "exploding-gradient"
    assert caught.value.diagnosis.code == "DC408"


@given(
    values=st.lists(st.floats(0.9, 1.1), min_size=40, max_size=80),
    poison=st.lists(st.sampled_from([float("nan"), float("inf"), -float("inf"), None]), max_size=60),
)
def test_spike_statistics_are_robust_to_bad_values(values: list[float], poison: list[float | None]) -> None:
    poisoned, clean = SpikeDetector(10.0), SpikeDetector(10.0)
    for value in values:
        assert poisoned.add(value) == clean.add(value)
    for value in poison:
        assert poisoned.add(value) is None
    assert poisoned.add(1.05) == clean.add(1.05)
    spike = poisoned.add(100.0)
    assert spike == clean.add(100.0)
    assert spike is not None
    assert spike.median == pytest.approx(float(np.median([*values, 1.05])))


def test_a_lasting_change_of_level_is_accepted() -> None:
    watch = SpikeDetector(10.0, window=32)
    for value in [1.0, 1.1, 0.9] * 10:
        watch.add(value)
    spikes = [watch.add(50.0 + value) is not None for value in [1.0, 1.1, 0.9] * 16]
    assert spikes[0]
    assert not any(spikes[20:])


@pytest.mark.parametrize("mode", ["step", "loop"])
def test_a_reduced_learning_rate_recovers_unseen_by_schedulers(mode: str) -> None:
    model, _ = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    guard = Guard(model, optimizer, on_trip=ReduceLR(0.25, recovery_steps=4), scheduler=scheduler)
    used = []
    optimizer.register_step_pre_hook(lambda optimizer, *_: used.append(optimizer.param_groups[0]["lr"]))
    seen = []
    for number, batch in enumerate([*good(2), bad(), *good(5)]):
        if mode == "step":
            guard.step(mean_squares, batch)
        else:
            loop(model, optimizer, [batch])
        seen.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
        assert scheduler.get_last_lr()[0] == pytest.approx(0.5 * 0.9 ** (number + 1))
    assert seen == pytest.approx([0.5 * 0.9**step for step in range(8)]), "between steps the rate is the scheduler's"
    factors = [1, 1, 0.25, 0.25**0.75, 0.25**0.5, 0.25**0.25, 1]
    made = [rate for rate in used if rate is not None]
    if mode == "loop":
        del made[2]
    steps = [0, 1, 3, 4, 5, 6, 7]
    assert made == pytest.approx([0.5 * 0.9**step * factor for step, factor in zip(steps, factors, strict=True)])
    assert guard.history.learning_rates[2] == pytest.approx(0.5 * 0.9**3 * 0.25)
    assert finite(model, optimizer)


def test_reduce_lr_after_a_spike_makes_the_update_at_the_lower_rate() -> None:
    model, _ = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    guard = Guard(model, optimizer, on_trip=ReduceLR(0.1, recovery_steps=None), grad_spike=8.0)
    feed(guard, good(40))
    before = state_of(model, optimizer)
    guard.step(mean_squares, large())
    step = (before[3] - state_of(model, optimizer)[3]).abs().max()
    assert step > 0
    assert guard.history.learning_rates[-1] == pytest.approx(1e-4)


@pytest.mark.parametrize("on_disk", [False, True])
def test_rollback_restores_everything(on_disk: bool, tmp_path: Path) -> None:
    model, optimizer = make()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    rollback = Rollback(every_n_steps=2, directory=tmp_path / "kept" if on_disk else None)
    guard = Guard(model, optimizer, on_trip=rollback, scaler=scaler, scheduler=scheduler)
    feed(guard, good(4))
    kept = (state_of(model, optimizer), scaler.state_dict(), scheduler.state_dict(), torch.rand(2), random.random())
    assert rollback.steps == [4]
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler.step()
    scheduler.step()
    guard.step(mean_squares, next(good(1, seed=4)))
    assert not same(kept[0], state_of(model, optimizer))
    guard.step(mean_squares, bad())
    assert same(kept[0], state_of(model, optimizer))
    assert scaler.state_dict() == kept[1]
    assert scheduler.state_dict() == kept[2]
    assert [group["lr"] for group in optimizer.param_groups] == rates
    assert torch.equal(torch.rand(2), kept[3])
    assert random.random() == kept[4]
    assert guard.report().findings[-1].detail.endswith("1 update undone")


def test_rollback_to_the_start_removes_newer_optimizer_state() -> None:
    model, optimizer = make()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    guard = Guard(model, optimizer, on_trip="rollback")
    feed(guard, [*good(2), bad()])
    assert same(before, [parameter.detach() for parameter in model.parameters()])
    assert not any(optimizer.state.values())


def test_rollback_handles_a_nonfinite_update() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    optimizer = torch.optim.Adam(model.parameters(), eps=0.0)
    before = model.weight.detach().clone()
    guard = Guard(model, optimizer, on_trip="rollback")
    guard.step(lambda model, batch: model(batch).sum() * 0.0, torch.ones(2, 3))
    assert torch.equal(model.weight, before)


def test_a_nonfinite_state_is_never_kept() -> None:
    model, optimizer = make()
    rollback = Rollback(every_n_steps=1, keep=3)
    guard = Guard(model, optimizer, on_trip=rollback, every_n_steps=1000)
    feed(guard, good(14))
    assert rollback.steps == [12, 13, 14]
    with torch.no_grad():
        model[1].running_mean[0] = float("nan")
    feed(guard, good(2))
    assert rollback.steps == [12, 13, 14]


def test_a_second_trip_goes_back_further_and_a_third_stops_training() -> None:
    model, optimizer = make()
    rollback = Rollback(every_n_steps=2, keep=2, limit=2)
    guard = Guard(model, optimizer, on_trip=rollback)
    feed(guard, [*good(5), bad(), bad()])
    details = [finding.detail for finding in guard.report().findings if finding.rule == "rollback"]
    assert [detail.split(":")[0] for detail in details] == [
        "back to the state after step 4",
        "back to the state after step 2",
    ]
    with pytest.raises(NonFiniteError):
        guard.step(mean_squares, bad())


def test_only_so_many_snapshots_are_kept_on_disk(tmp_path: Path) -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip=Rollback(1, keep=2, directory=tmp_path))
    feed(guard, good(6))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("answer", "is_made"), [(None, False), ("skip", False), ("make", True)])
def test_a_function_decides(answer: str | None, is_made: bool) -> None:
    model, optimizer = make()
    trips = []

    def decide(trip: Any) -> str | None:
        trips.append(trip)
        return answer

    guard = Guard(model, optimizer, on_trip=decide)
    feed(guard, [*good(2), bad()])
    assert [trip.step for trip in trips] == [3]
    assert trips[0].code == "DC450"
    assert finite(model, optimizer) is not is_made


def test_a_function_may_answer_raise_or_raise_itself() -> None:
    model, optimizer = make()
    with pytest.raises(NonFiniteError):
        feed(Guard(model, optimizer, on_trip=lambda trip: "raise"), [bad()])

    def stop(trip: Any) -> None:
        raise KeyError(trip.step)

    with pytest.raises(KeyError):
        feed(Guard(model, optimizer, on_trip=stop), [bad()])
    with pytest.raises(UsageError, match="did you mean 'skip'"):
        feed(Guard(model, optimizer, on_trip=lambda trip: "skp"), [bad()])


def test_actions_act_in_order_with_limits() -> None:
    model, optimizer = make()
    guard = Guard(
        model, optimizer, on_trip=(Warn(limit=1), ReduceLR(0.5, limit=2), Skip(limit=2), Rollback(limit=1), "raise")
    )
    with pytest.warns(GuardWarning) as warned:
        feed(guard, [next(good(1)), bad(), bad(), bad()])
    assert len(warned) == 1
    with pytest.raises(NonFiniteError):
        guard.step(mean_squares, bad())
    assert acts(guard) == ["warn", "reduce_lr", "skip", "reduce_lr", "skip", "rollback", "raise"]
    assert finite(model, optimizer)


def test_diagnoses_are_bounded_if_training_goes_on() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip="skip", max_diagnoses=2, max_skips=100)
    feed(guard, [bad()] * 5)
    assert len(guard.report().diagnoses) == 2


@pytest.mark.slow
def test_reports_are_bounded_and_count_the_rest() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip="skip", max_diagnoses=0, max_skips=10_000)
    feed(guard, [bad()] * 600)
    report = guard.report()
    assert len(report.findings) == 1002
    assert report.findings[-1].num_violations + report.findings[-2].num_violations == 200
    assert json.loads(report.to_json())["num_rows"] == 600
    assert "in 600 steps" in str(report)


@pytest.mark.parametrize(
    "make_action",
    [
        lambda: Clip(1.0, max_value=1.0),
        lambda: Clip(-1.0),
        lambda: ReduceLR(2.0),
        lambda: ReduceLR(recovery_steps=0),
        lambda: Rollback(0),
        lambda: Rollback(keep=0),
        lambda: Skip(-1),
        lambda: Skip(limit=0),
    ],
)
def test_invalid_settings_are_usage_errors(make_action: Any) -> None:
    with pytest.raises(UsageError):
        make_action()
