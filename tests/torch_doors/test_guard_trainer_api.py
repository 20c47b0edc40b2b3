"""``begin``, ``check`` and ``finished``: what a trainer reports of its steps, and what it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import Decision, Guard, NonFiniteError, Skip  # noqa: E402

Batch = tuple[torch.Tensor, torch.Tensor]


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=0.05)


def batches(number: int = 6, bad_at: int = -1) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(1)
    for position in range(number):
        x, y = torch.randn(5, 4, generator=generator), torch.randn(5, 2, generator=generator)
        if position == bad_at:
            x[3, 1] = torch.nan
        yield x, y


def loss_fn(model: nn.Module, batch: Batch) -> torch.Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def train(
    on_trip: str | None, bad_at: int = -1, *, ask: str = "and obey", norm: bool = False, leave_out: int = -1
) -> tuple[nn.Module, torch.optim.Optimizer, Guard | None, list[Decision]]:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip=on_trip) if on_trip else None
    decisions = []
    for position, batch in enumerate(batches(bad_at=bad_at)):
        if position == leave_out:
            continue
        if guard is not None:
            guard.begin(batch, loss_fn)
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        total = nn.utils.clip_grad_norm_(model.parameters(), 1.0) if norm else None
        decision = Decision(True) if guard is None else guard.check(loss=loss, grad_norm=total)
        decisions.append(decision)
        if decision or ask == "and ignore":
            optimizer.step()
    if guard is not None:
        guard.finished()
    return model, optimizer, guard, decisions


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return [*model.state_dict().values(), *moments]


def assert_same(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    assert len(first) == len(second)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("norm", [False, True], ids=["gradients", "grad_norm"])
def test_clean_training_has_the_same_bits_and_no_findings(norm: bool) -> None:
    model, optimizer, guard, decisions = train("raise", norm=norm)
    expected, other, *_ = train(None, norm=norm)
    assert_same(state_of(model, optimizer), state_of(expected, other))
    assert guard is not None
    assert guard.report().findings == ()
    assert all(decisions)


@pytest.mark.parametrize("norm", [False, True], ids=["gradients", "grad_norm"])
@pytest.mark.parametrize("ask", ["and obey", "and ignore"])
def test_a_refused_update_changes_nothing_whether_or_not_the_trainer_obeys(ask: str, norm: bool) -> None:
    model, optimizer, guard, decisions = train("skip", bad_at=3, ask=ask, norm=norm)
    expected, other, *_ = train(None, leave_out=3, norm=norm)
    assert_same(state_of(model, optimizer), state_of(expected, other))
    assert [decision.makes_update for decision in decisions] == [True, True, True, False, True, True]
    assert guard is not None
    assert guard.report().num_rows == 6
    found = decisions[3].diagnosis
    assert found is not None
    assert (found.cause, found.samples, found.step) == ("input-not-finite", (3,), 4)
    assert decisions[3].trip is not None
    assert decisions[4] == Decision(True)


def test_the_history_holds_the_norm_that_the_trainer_computed() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer)
    guard.begin(next(batches()))
    loss_fn(model, next(batches())).backward()
    guard.check(loss=torch.tensor(2.0), grad_norm=torch.tensor(7.0))
    assert (guard.history.losses, guard.history.gradient_norms) == ([2.0], [7.0])
    guard.remove()


def test_the_micro_batch_with_the_bad_sample_is_diagnosed() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer)
    losses = []
    for batch in batches(4, bad_at=2):
        guard.begin(batch, loss_fn)
        loss = loss_fn(model, batch)
        losses.append(loss)
        (loss / 4).backward()
    with pytest.raises(NonFiniteError) as caught:
        guard.check(loss=losses)
    assert caught.value.diagnosis.samples == (3,)
    assert caught.value.diagnosis.step == 1
    guard.remove()


def test_without_the_code_of_the_loss_the_guard_finds_it_itself() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer)
    for batch in batches(bad_at=0):
        guard.begin(batch)
        loss = ((model(batch[0]) - batch[1]) ** 2).mean()
        loss.backward()
        with pytest.raises(NonFiniteError) as caught:
            guard.check(loss=loss)
        break
    assert caught.value.diagnosis.cause == "input-not-finite"
    guard.remove()


def test_optimizers_that_take_turns_are_checked_one_by_one() -> None:
    first, second = nn.Linear(4, 2), nn.Linear(4, 2)
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (first, second)]
    guard = Guard(nn.ModuleList([first, second]), optimizers, on_trip="skip")
    x = torch.randn(3, 4)
    before = [part.weight.detach().clone() for part in (first, second)]
    first(x * torch.nan).sum().backward()
    assert not guard.check(optimizer=optimizers[0])
    optimizers[0].step()
    second(x).sum().backward()
    assert guard.check(optimizer=optimizers[1])
    optimizers[1].step()
    assert torch.equal(first.weight, before[0])
    assert not torch.equal(second.weight, before[1])
    assert second.weight.isfinite().all()
    with pytest.raises(UsageError, match="not one of the guard's optimizers"):
        guard.check(optimizer=make()[1])
    guard.remove()


def test_a_closure_is_checked_where_the_trainer_asks_inside_it() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip="skip")
    for position, batch in enumerate(batches(bad_at=2)):
        before = state_of(model, optimizer)
        before = [value.clone() for value in before]
        guard.begin(batch, loss_fn)
        decisions = []

        def closure(batch: Batch = batch, decisions: list[Decision] = decisions) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            decisions.append(guard.check(loss=loss))
            return loss

        optimizer.step(closure)
        assert [bool(one) for one in decisions] == [position != 2]
        if position == 2:
            assert_same(state_of(model, optimizer), before)
    assert guard.report().num_rows == 6
    guard.remove()


def test_an_overflow_is_left_to_the_scaler_whether_or_not_gradients_are_unscaled() -> None:
    for unscales in (False, True):
        model, optimizer = make()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
        guard = Guard(model, optimizer, scaler=scaler)
        norms = []
        for batch in batches(12):
            guard.begin(batch, lambda model, batch: 50 * loss_fn(model, batch))
            optimizer.zero_grad()
            loss = 50 * loss_fn(model, batch)
            scaler.scale(loss).backward()
            if unscales:
                scaler.unscale_(optimizer)
            assert guard.check(loss=loss)
            gradients = torch.cat([p.grad.flatten().double() for p in model.parameters() if p.grad is not None])
            norms.append(float(gradients.norm()) / (1 if unscales else scaler.get_scale()))
            scaler.step(optimizer)
            scaler.update()
        guard.finished()
        assert guard.report().findings == ()
        known = guard.history.gradient_norms
        assert known[-1] == pytest.approx(norms[-1], rel=1e-4)
        assert None in known


def run_steps(guard: Guard, number: int, bad_at: int, start: int = 0) -> None:
    for position, batch in enumerate(batches(number, bad_at=bad_at)):
        if position >= start:
            guard.step(loss_fn, batch)


@pytest.mark.parametrize("style", ["step", "loop", "reported"])
def test_a_resumed_run_skips_the_batch_that_stopped_the_one_before(style: str) -> None:
    def run(guard: Guard, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for batch in batches(6, bad_at=3):
            if style == "step":
                guard.step(loss_fn, batch)
                continue
            if style == "reported":
                guard.begin(batch, loss_fn)
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()

    model, optimizer = make()
    guard = Guard(model, optimizer)
    with pytest.raises(NonFiniteError):
        run(guard, model, optimizer)
    (bad,) = guard.bad_batches
    assert (bad.step, bad.code, bad.cause, bad.samples) == (
        4,
        "DC450",
        "input-not-finite",
        ("sample 3 of the batch",),
    )
    state = json.loads(json.dumps(guard.state_dict()))
    guard.remove()

    resumed, its_optimizer = make()
    with Guard(resumed, its_optimizer, skip_bad_batches=True) as guard:
        guard.load_state_dict(state)
        run(guard, resumed, its_optimizer)
    expected, other, *_ = train(None, leave_out=3)
    assert_same(state_of(resumed, its_optimizer), state_of(expected, other))
    found = [finding for finding in guard.report().findings if finding.code == "DC456"]
    assert [finding.uri for finding in found] == ["step 8"]
    assert "input-not-finite, in step 4 of an earlier run" in found[0].message
    assert guard.bad_batches == (bad,)


def test_only_the_bad_micro_batch_is_written_down() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, accumulation_steps=3, on_trip="skip")
    run_steps(guard, 3, bad_at=1)
    assert [(bad.step, bad.samples) for bad in guard.bad_batches] == [(1, ("sample 3 of the batch",))]


def test_no_batch_is_blamed_for_divergence() -> None:
    model, _ = make()
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=1e4), on_trip="skip", max_skips=100)
    for batch in batches(40):
        guard.step(loss_fn, batch)
    assert any(one.code == "DC408" for one in guard.report().diagnoses)
    assert guard.bad_batches == ()


def test_histories_and_limits_go_on_after_a_resume() -> None:
    model, optimizer = make()
    options = {"loss_spike": 10, "grad_spike": 10, "warmup_steps": 4}
    guard = Guard(model, optimizer, on_trip=Skip(limit=1), **options)
    run_steps(guard, 6, bad_at=2)
    state = guard.state_dict()
    again = Guard(model, optimizer, on_trip=Skip(limit=1), **options)
    again.load_state_dict(state)
    assert repr(again.history) == repr(guard.history)  # which has a NaN
    assert again.state_dict() == state
    with pytest.raises(NonFiniteError):  # the one skip was used before
        run_steps(again, 3, bad_at=2)


@pytest.mark.parametrize("state", [{}, {"version": 99}, [], {"version": 1, "bad_batches": [{"step": 1}]}])
def test_a_state_of_something_else_is_refused(state: object) -> None:
    with pytest.raises(UsageError):
        Guard(*make()).load_state_dict(state)  # type: ignore[arg-type]


def test_a_snapshot_is_kept_before_the_first_step_of_a_resumed_run() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip="rollback")
    guard.load_state_dict(Guard(*make()).state_dict() | {"step": 7})
    before = [value.clone() for value in model.state_dict().values()]
    run_steps(guard, 3, bad_at=2)
    assert_same(list(model.state_dict().values()), before)
