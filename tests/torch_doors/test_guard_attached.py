"""What a guard sees while it is attached, and what is left of it afterwards."""

from __future__ import annotations

import gc
import math
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.errors import DatacheckError, UsageError  # noqa: E402
from datacheck.torch import Guard, NonFiniteError, Rollback, diagnose  # noqa: E402
from datacheck.torch.guard import torch_calls  # noqa: E402

pytestmark = pytest.mark.torch

X = torch.linspace(-1.0, 1.0, 12).reshape(4, 3)


def make(lr: float = 0.01) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=lr)


@pytest.fixture(autouse=True)
def nobody_elses_guard() -> None:
    """Other tests may have left a guard attached, which something still refers to."""
    gc.collect()
    for known in list(torch_calls._observers):
        observer = known()
        if observer is not None:
            torch_calls.remove_observer(observer)
    torch_calls._uninstall_if_unused()


def replaced_functions() -> list[Callable[..., Any]]:
    scaler = torch.amp.GradScaler
    iterator = torch.utils.data.dataloader._BaseDataLoaderIter
    return [torch.autograd.backward, scaler.scale, scaler.step, scaler.update, scaler.unscale_, iterator.__next__]


def test_nothing_of_a_guard_is_left_when_it_is_removed() -> None:
    gc.collect()
    before = replaced_functions()
    model, optimizer = make()
    with Guard(model, optimizer):
        other = Guard(*make())
        assert all(now is not then for now, then in zip(replaced_functions(), before, strict=True))
        other.remove()
        assert torch.autograd.backward is not before[0]
    assert replaced_functions() == before
    assert not model._forward_pre_hooks
    assert not optimizer._optimizer_step_pre_hooks


def test_a_guard_that_is_forgotten_leaves_nothing_either() -> None:
    gc.collect()
    before = replaced_functions()
    guard: Guard | None = Guard(*make())
    assert guard is not None
    guard = None
    gc.collect()
    # Its finalizer changes nothing, since it may run anywhere: the next call does.
    torch.ones(1, requires_grad=True).sum().backward()
    assert replaced_functions() == before


def test_a_guard_is_collected_while_another_thread_holds_the_lock() -> None:
    gc.collect()
    guard: Guard | None = Guard(*make())
    assert guard is not None
    with torch_calls._lock:
        guard = None
        collecting = threading.Thread(target=gc.collect, daemon=True)
        collecting.start()
        collecting.join(10)
        assert not collecting.is_alive(), "a finalizer waits for a lock"
    assert torch_calls._present() == []
    assert not torch_calls._restorers


def test_calls_of_other_threads_leave_a_replay_alone() -> None:
    gc.collect()
    seen = torch.autograd.backward

    class Calls:
        is_unscaled = runs_backward = may_end = False

        def on_backward(self, tensors: Any, frame: Any) -> str:
            return "replayed"

    with torch_calls.during_replay(Calls()):  # type: ignore[arg-type]
        other = threading.Thread(target=lambda: torch.ones(1, requires_grad=True).sum().backward())
        other.start()
        other.join()
        assert torch.autograd.backward(torch.ones(1)) == "replayed"  # type: ignore[func-returns-value]
    assert torch.autograd.backward is seen


def test_a_function_that_someone_else_has_replaced_since_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    calls: list[int] = []
    guard = Guard(*make())
    seen = torch.autograd.backward

    def counting(*args: Any, **kwargs: Any) -> None:
        calls.append(1)
        seen(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "backward", counting)
    guard.remove()
    assert torch.autograd.backward is counting
    torch.ones(1, requires_grad=True).sum().backward()
    assert calls == [1]
    monkeypatch.undo()
    Guard(*make()).remove()
    assert torch.autograd.backward is not seen


def test_a_second_guard_of_an_optimizer_takes_the_place_of_the_first() -> None:
    model, optimizer = make()
    first = Guard(model, optimizer)
    second = Guard(model, optimizer)
    assert (first.is_attached, second.is_attached) == (False, True)
    assert "took its place" in str(first.report())
    loss = model(X).sum() * math.nan
    loss.backward()
    with pytest.raises(NonFiniteError):
        optimizer.step()
    assert first.report().ok
    second.remove()


def test_after_an_inner_guard_the_outer_one_goes_on() -> None:
    model, optimizer = make()
    with Guard(model, optimizer, on_trip="skip") as outer:
        with Guard(model, optimizer, on_trip="skip") as inner:
            assert not outer.is_attached
        assert outer.is_attached
        (model(X).sum() * math.nan).backward()
        optimizer.step()
    assert inner.report().ok
    assert not outer.report().ok


def test_a_loss_that_is_nan_while_gradients_are_finite_is_found_in_a_loop() -> None:
    model, optimizer = make()
    with Guard(model, optimizer):
        loss = model(X).sum() + torch.log(torch.tensor(-1.0))
        loss.backward()
        with pytest.raises(NonFiniteError) as caught:
            optimizer.step()
    assert caught.value.diagnosis.cause == "log-of-zero-or-negative"


def test_the_loss_of_another_model_is_none_of_a_guards_business() -> None:
    model, optimizer = make()
    other, _ = make()

    def run(loss: torch.Tensor) -> None:
        loss.backward()

    with Guard(model, optimizer) as guard:
        for _ in range(3):
            run(model(X).sum())
            run(other(X).sum() * math.nan)
            optimizer.step()
            optimizer.zero_grad()
    assert guard.report().ok


def test_one_loss_over_two_optimizers_is_skipped_in_both() -> None:
    torch.manual_seed(0)
    body, head = nn.Linear(3, 3), nn.Linear(3, 1)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (body, head)]
    model = nn.Sequential(body, head)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with Guard(model, optimizers, on_trip="skip") as guard:
        model(X).sum().backward()
        assert head.weight.grad is not None
        head.weight.grad[0, 0] = math.nan
        for optimizer in optimizers:
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    assert [finding.code for finding in guard.report().findings if finding.is_error][:1] == ["DC451"]
    assert guard.report().num_rows == 1


@pytest.mark.parametrize("gives_scaler", [False, True])
def test_a_step_that_a_scaler_skips_is_judged_whether_or_not_the_guard_was_given_it(gives_scaler: bool) -> None:
    model, optimizer = make()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    with Guard(model, optimizer, scaler=scaler if gives_scaler else None) as guard:
        for number in range(40):
            optimizer.zero_grad()
            output = model(10 * X)
            loss = output.square().mean()
            if number == 30:
                loss = (output * 0).square().sum(1).sqrt().mean()  # BUG
            scaler.scale(loss).backward()
            if number < 30:
                scaler.step(optimizer)
                scaler.update()
                continue
            with pytest.raises(NonFiniteError) as caught:
                scaler.step(optimizer)
            break
    assert caught.value.diagnosis.cause == "sqrt-gradient-at-zero"
    assert caught.value.diagnosis.step == 31
    assert ("the guard follows it" in str(guard.report())) is not gives_scaler


def test_steps_that_were_rolled_back_leave_the_history() -> None:
    model, optimizer = make()
    with Guard(model, optimizer, on_trip=Rollback(every_n_steps=2)) as guard:
        for number in range(6):
            optimizer.zero_grad()
            (model(X).sum() * (math.nan if number == 5 else 1.0)).backward()
            optimizer.step()
    assert len(guard.history.losses) == 4


def test_a_guard_that_is_switched_off_trains_and_checks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    before = replaced_functions()
    plain, plain_optimizer = make()
    for _ in range(3):
        plain_optimizer.zero_grad()
        (plain(X).square().mean() / 2 + plain(X).mean() / 2).backward()
        plain_optimizer.step()
    monkeypatch.setenv("DATACHECK_GUARD", "off")
    model, optimizer = make()
    guard = Guard(model, optimizer, accumulation_steps=2, on_trip="rollback")
    for _ in range(3):
        guard.step(lambda model, batch: model(batch).square().mean(), X)
        guard.step(lambda model, batch: model(batch).mean(), X)
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), model.parameters(), strict=True))
    with guard:
        optimizer.zero_grad()
        (model(X).sum() * math.nan).backward()
        optimizer.step()
    assert replaced_functions() == before
    assert guard.report().ok
    assert bool(guard.check(loss=torch.tensor(math.nan)))
    guard.finished()


def test_fully_sharded_data_parallel_is_refused() -> None:
    class FullyShardedDataParallel(nn.Module):
        pass

    FullyShardedDataParallel.__module__ = "torch.distributed.fsdp.fully_sharded_data_parallel"
    model, optimizer = make()
    model.add_module("inner", FullyShardedDataParallel())
    with pytest.raises(UsageError, match="fully_shard"):
        Guard(model, optimizer)


def test_diagnose_reads_a_schema_from_its_path_and_says_so_where_there_is_none(tmp_path: Path) -> None:
    def loss_fn() -> torch.Tensor:
        return torch.ones(1, requires_grad=True).sum()

    with pytest.raises(DatacheckError, match="missing"):
        diagnose(loss_fn, schema=tmp_path / "missing.yaml")


def test_a_learning_rate_far_too_high_is_answered_with_a_usual_one() -> None:
    model, optimizer = make(lr=1e3)

    def train() -> None:
        for _ in range(50):
            optimizer.zero_grad()
            model(X).square().mean().backward()
            optimizer.step()

    with Guard(model, optimizer), pytest.raises(NonFiniteError) as caught:
        train()
    assert caught.value.diagnosis.cause == "learning-rate-too-high"
    (rate,) = re.findall(r"\['lr'\] = (\S+)", caught.value.diagnosis.remedy)
    assert float(rate) <= 0.1
