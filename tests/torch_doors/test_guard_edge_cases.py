"""Edge cases of a guard: models that change, errors that end a loop, gradients that are never zeroed."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import Clip, Guard, GuardWarning, NonFiniteError, ReduceLR, Rollback, Skip  # noqa: E402

pytestmark = pytest.mark.torch

Batch = tuple[torch.Tensor, torch.Tensor]


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def mean_squares(model: nn.Module, batch: Batch) -> torch.Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def batches(number: int, bad_at: int = -1) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(1)
    for position in range(number):
        x, y = torch.randn(5, 4, generator=generator), torch.randn(5, 2, generator=generator)
        if position == bad_at:
            x[3, 1] = math.nan
        yield x, y


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_modules_added_later_are_watched_and_their_masks_expected() -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    guard = Guard(model, optimizer, watch="layers", every_n_steps=1)
    data = list(batches(8))
    for batch in data[:3]:
        guard.step(mean_squares, batch)
    added = nn.Linear(2, 2)
    added.register_buffer("mask", torch.tensor([-math.inf, 0.0]))
    model.append(added)
    optimizer.add_param_group({"params": added.parameters()})
    for batch in data[3:]:
        guard.step(mean_squares, batch)
    assert guard.report().ok, str(guard.report())
    with torch.no_grad():
        added.bias.fill_(math.nan)
    with pytest.raises(NonFiniteError) as caught:
        guard.step(mean_squares, data[0])
    assert caught.value.diagnosis.cause == "parameter-not-finite"
    assert "the first module with a non-finite output" not in str(guard.report()), "it is explained"
    guard.remove()
    assert not any(module._forward_hooks for module in model.modules())


def test_replaced_parameters_are_watched() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = Guard(model, optimizer)
    guard.step(mean_squares, next(batches(1)))
    model[2] = nn.Linear(6, 2)
    optimizer.param_groups[0]["params"] = list(model.parameters())
    guard.step(mean_squares, next(batches(1)))
    model[2].weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteError):
        guard.step(mean_squares, next(batches(1)))
    assert all(tensor.isfinite().all() for tensor in model.parameters())


def test_updates_are_measured_after_weights_moved_to_other_memory() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = Guard(model, optimizer)
    data = list(batches(6))
    for batch in data[:2]:
        guard.step(mean_squares, batch)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    for batch in data[2:]:
        guard.step(mean_squares, batch)
    ratios = guard.history.update_ratios
    assert ratios[2] is None, "one update is lost"
    assert all(ratio is not None and ratio > 0 for ratio in ratios[:2] + ratios[3:])


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "transposed"])
def test_the_update_ratio_covers_all_weights_of_a_small_model(layout: str) -> None:
    torch.manual_seed(0)
    model: nn.Module = nn.Conv2d(3, 4, 3)
    if layout == "channels last":
        model = model.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        model.weight = nn.Parameter(model.weight.detach().transpose(0, 3).contiguous().transpose(0, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    guard = Guard(model, optimizer)
    expected = []
    for step in range(40):
        before = torch.cat([w.reshape(-1) for w in weights(model)]).double()
        guard.step(lambda model, x: model(x).square().mean(), torch.randn(2, 3, 6, 6))
        after = torch.cat([w.reshape(-1) for w in weights(model)]).double()
        expected.append(float((after - before).norm() / after.norm()))
        if step in (0, 5, 6):
            # What is read early is measured early.
            assert guard.history.update_ratios == pytest.approx(expected, rel=1e-3)
    assert guard.history.update_ratios == pytest.approx(expected, rel=1e-3)


def test_weights_too_large_for_squares_are_measured_without_a_warning() -> None:
    model = make_model()
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=1e38), on_trip="warn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", GuardWarning)
        for batch in batches(4):
            guard.step(mean_squares, batch)
    assert guard.history.update_ratios[0] == pytest.approx(1.0)


def test_diverged_training_is_attributed_to_no_sample() -> None:
    torch.manual_seed(0)
    model = make_model()
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=30.0))

    def loop() -> None:
        for _ in range(300):
            guard.step(lambda m, b: (m[2](m[0](b[0])) - b[1]).pow(2).mean(), next(batches(1)))

    with pytest.raises(NonFiniteError) as caught:
        loop()
    found = caught.value.diagnosis
    assert found.cause == "learning-rate-too-high"
    assert (found.samples, found.origins, found.field) == ((), (), None)


def check_by_hand(loss: torch.Tensor) -> None:
    if loss.isnan():
        raise ValueError("the loss is nan")


@pytest.mark.parametrize("kind", ["check", "assert", "strict clipping"])
def test_an_error_that_ends_a_loop_gets_the_diagnosis_as_a_note(kind: str) -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = Guard(model, optimizer)

    def loop() -> None:
        with guard:
            for batch in batches(4, bad_at=2):
                optimizer.zero_grad()
                loss = mean_squares(model, batch)
                if kind == "check":
                    check_by_hand(loss)
                if kind == "assert":
                    assert loss.isfinite(), "a non-finite loss"
                loss.backward()
                if kind == "strict clipping":
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
                optimizer.step()

    with pytest.raises((ValueError, AssertionError, RuntimeError)) as caught:
        loop()
    assert not isinstance(caught.value, NonFiniteError), "the user's own error stays what it is"
    (note,) = caught.value.__notes__
    assert note.startswith("step 3: DC407 input-not-finite")
    assert guard.last_diagnosis is not None
    assert guard.last_diagnosis.samples == (3,)
    assert [finding.code for finding in guard.report().findings] == ["DC450", "DC407"]


def test_an_unrelated_error_ends_a_loop_unchanged() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = Guard(model, optimizer)

    def loop() -> None:
        with guard:
            mean_squares(model, next(batches(1)))
            raise ValueError("finite patience")

    with pytest.raises(ValueError, match="finite patience") as caught:
        loop()
    assert not hasattr(caught.value, "__notes__")
    assert guard.report().ok


def test_stale_gradients_of_a_skipped_step_are_told_from_new_ones() -> None:
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loop() -> None:
        with Guard(model, optimizer, on_trip=Skip(max_in_row=2)):
            for batch in batches(9, bad_at=2):
                mean_squares(model, batch).backward()
                optimizer.step()

    with pytest.raises(NonFiniteError) as caught:
        loop()
    found = caught.value.diagnosis
    assert found.step == 5
    assert found.cause == "input-not-finite"
    assert found.explanation.startswith(
        "the gradients were already non-finite when the step began: step 3 left them, and they were not cleared"
    )
    assert found.remedy.startswith("optimizer.zero_grad()")


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("at", [1, 3])
def test_a_nan_in_a_step_skipped_by_the_scaler_trips(is_told: bool, at: int) -> None:
    model = make_model()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=8.0)
    with Guard(model, optimizer, scaler=scaler, on_trip="skip") as guard:
        for batch in batches(4, bad_at=at):
            optimizer.zero_grad()
            loss = mean_squares(model, batch)
            if is_told:
                guard.backward(loss)
            else:
                scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    trip, diagnosis, act = guard.report().findings
    assert trip.code == "DC450"
    assert trip.uri == f"step {at + 1}"
    assert diagnosis.rule == "input-not-finite"
    assert act.rule == "skip"
    assert guard.last_diagnosis is not None
    assert guard.last_diagnosis.samples == (3,)


def test_micro_batches_under_a_scaler_are_one_step_from_the_first_step_on() -> None:
    model = make_model()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=8.0)
    with Guard(model, optimizer, scaler=scaler) as guard:
        for number, batch in enumerate(batches(6), start=1):
            scaler.scale(mean_squares(model, batch) / 2).backward()
            if number % 2 == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    assert guard.report().num_rows == 3


def test_an_overflow_in_a_step_skipped_by_the_scaler_does_not_trip() -> None:
    model = make_model()
    optimizer, scaler = torch.optim.SGD(model.parameters(), lr=0.1), torch.amp.GradScaler("cpu", init_scale=2.0**126)
    with Guard(model, optimizer, scaler=scaler) as guard:
        for batch in batches(8):
            optimizer.zero_grad()
            scaler.scale(mean_squares(model, batch) * 1000).backward()
            scaler.step(optimizer)
            scaler.update()
    assert scaler.get_scale() < 2.0**126
    assert guard.report().ok, str(guard.report())


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_learning_rate_is_restored_if_the_optimizer_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.25)
    guard = Guard(model, optimizer, on_trip=ReduceLR(0.5))
    guard.step(mean_squares, next(batches(1, bad_at=0)))
    monkeypatch.setattr(import_module("torch.optim.adam"), "adam", interrupt)
    with pytest.raises(KeyboardInterrupt):
        guard.step(mean_squares, next(batches(1)))
    assert optimizer.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("place", ["forward", "backward"])
def test_an_interrupted_step_leaves_nothing_half_done(place: str) -> None:
    def interrupted(model: nn.Module, batch: Batch) -> torch.Tensor:
        output = model(batch[0])
        if place == "forward":
            raise KeyboardInterrupt
        output.register_hook(interrupt)
        return output.sum()

    model, other = make_model(), make_model()
    optimizer, plain = (torch.optim.AdamW(one.parameters(), lr=0.1) for one in (model, other))
    guard = Guard(model, optimizer, accumulation_steps=2, watch="layers")
    data = list(batches(5))
    guard.step(mean_squares, data[0])
    with pytest.raises(KeyboardInterrupt):
        guard.step(interrupted, data[1])
    for batch in data[2:4]:
        guard.step(mean_squares, batch)
        (mean_squares(other, batch) / 2).backward()
    plain.step()
    assert same(weights(model), weights(other))
    with guard:
        optimizer.zero_grad()
        mean_squares(model, data[4]).backward()
        optimizer.step()
    assert len(guard.history.gradient_norms) == 2


def test_a_held_closure_returns_its_own_loss() -> None:
    model = make_model()
    guard = Guard(model, torch.optim.LBFGS(model.parameters()), on_trip="skip")
    assert guard.step(mean_squares, next(batches(1, bad_at=0))).isnan()


def test_an_unwritable_snapshot_directory_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = make_model()
    guard = Guard(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        on_trip=Rollback(directory=tmp_path / "file"),
    )
    with pytest.raises(UsageError, match=r"cannot write the snapshot of step 0 to .*file"):
        guard.step(mean_squares, next(batches(1)))


def test_missing_snapshots_do_not_hide_the_trip(tmp_path: Path) -> None:
    model = make_model()
    rollback = Rollback(1, keep=2, directory=tmp_path)
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1), on_trip=rollback)
    for batch in batches(2):
        guard.step(mean_squares, batch)
    last = max(tmp_path.iterdir())
    shutil.rmtree(last)
    guard.step(mean_squares, next(batches(1, bad_at=0)))
    assert guard.report().findings[-1].detail == "back to the state after step 1: 1 update undone"
    shutil.rmtree(tmp_path)
    with pytest.raises(NonFiniteError, match="input-not-finite"):
        guard.step(mean_squares, next(batches(1, bad_at=0)))


def test_only_updates_that_were_made_count_as_undone() -> None:
    model = make_model()
    guard = Guard(
        model, torch.optim.SGD(model.parameters(), lr=0.1), on_trip=(Clip(limit=1), Skip(limit=2), Rollback())
    )
    data = list(batches(1)) + [next(batches(1, bad_at=0))] * 4
    for batch in data:
        guard.step(mean_squares, batch)
    acts = [finding.detail for finding in guard.report().findings if finding.code == "DC460"]
    assert acts[-1] == "back to the state after step 0: 1 update undone"


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("mode", ["step", "loop"])
def test_layers_inside_activation_checkpointing_are_seen_both_ways(use_reentrant: bool, mode: str) -> None:
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.inside = nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.into(x)
            return checkpoint(self.inside, x, use_reentrant=use_reentrant) if is_checkpointed else self.inside(x)

    def readings() -> dict[str, tuple[float | None, float | None]]:
        torch.manual_seed(0)
        model = Checkpointed()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        guard = Guard(model, optimizer, watch="layers")
        if mode == "step":
            guard.step(mean_squares, next(batches(1)))
        else:
            mean_squares(model, next(batches(1))).backward()
            optimizer.step()
        layers = guard._runner.layers
        assert layers is not None
        return {layer.name: (layer.output, layer.gradient) for layer in layers.read()}

    is_checkpointed = False
    plain = readings()
    is_checkpointed = True
    seen = readings()
    for name in ("into", "inside.0", "inside.1", "inside.2"):
        assert seen[name] == pytest.approx(plain[name]), name


def test_clipping_sparse_gradients_is_a_usage_error() -> None:
    model = nn.Embedding(5, 2, sparse=True)
    guard = Guard(model, torch.optim.SparseAdam(model.parameters()), max_grad_norm=1.0)
    with pytest.raises(UsageError, match="sparse=False"):
        guard.step(lambda model, batch: model(batch).mean(), torch.tensor([0, 3]))
