"""The loss code of the user's own loop is found and replayed, line for line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.torch import Diagnosis, Guard, NonFiniteError  # noqa: E402

pytestmark = pytest.mark.torch

X = torch.linspace(-1.0, 1.0, 12).reshape(4, 3)
Y = torch.tensor([1.0, 2.0, 0.0, 3.0])


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def inline(model: Any, optimizer: Any, guard: Guard) -> None:
    logged = []
    for _ in range(2):
        optimizer.zero_grad()
        prediction = model(X).squeeze(-1)
        weight = Y.log()  # BUG
        loss = (prediction * weight).mean()
        logged.append(loss.item())
        loss.backward()
        optimizer.step()


def in_one_statement(model: Any, optimizer: Any, guard: Guard) -> None:
    optimizer.zero_grad()
    (model(X).squeeze(-1) / Y).mean().backward()  # BUG
    optimizer.step()


def before_the_model_is_called(model: Any, optimizer: Any, guard: Guard) -> None:
    batch = {"x": X, "y": Y}
    weight = 1.0 / batch["y"]  # BUG
    optimizer.zero_grad()
    loss = (model(batch["x"]).squeeze(-1) * weight).mean()
    loss.backward()
    optimizer.step()


def with_the_input_given_another_value(model: Any, optimizer: Any, guard: Guard) -> None:
    x = X
    optimizer.zero_grad()
    x = model(x).squeeze(-1)
    loss = (x * Y.log()).mean()  # BUG
    loss.backward()
    optimizer.step()


def with_autocast_and_a_scaler(model: Any, optimizer: Any, guard: Guard) -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(X).squeeze(-1)
        loss = (output.float() * Y.log()).mean()  # BUG
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def with_all_of_it_in_autocast(model: Any, optimizer: Any, guard: Guard) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        optimizer.zero_grad()
        output = model(X).squeeze(-1)
        loss = (output.float() * Y.log()).mean()  # BUG
        loss.backward()
        optimizer.step()


def with_a_helper(model: Any, optimizer: Any, guard: Guard) -> None:
    def compute(model: Any, x: Any, y: Any) -> Any:
        output = model(x).squeeze(-1)
        return (output * y.log()).mean()  # BUG

    for _ in range(1):
        optimizer.zero_grad()
        loss = compute(model, X, Y)
        loss.backward()
        optimizer.step()


def with_backward_by_the_guard(model: Any, optimizer: Any, guard: Guard) -> None:
    optimizer.zero_grad()
    loss = (model(X).squeeze(-1) * Y.log()).mean()  # BUG
    guard.backward(loss)
    optimizer.step()


def in_a_method(model: Any, optimizer: Any, guard: Guard) -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = model
            self.num_steps = 0

        def train_step(self, x: Any, y: Any) -> None:
            optimizer.zero_grad()
            self.loss = (self.model(x).squeeze(-1) * y.log()).mean()  # BUG
            self.num_steps += 1
            self.loss.backward()
            optimizer.step()

    trainer = Trainer()
    trainer.train_step(X, Y)


def with_two_calls_of_the_model(model: Any, optimizer: Any, guard: Guard) -> None:
    for _ in range(2):
        optimizer.zero_grad()
        real = model(X)
        fake = model(-X)
        loss = real.mean() - fake.mean()
        gap = (real - real).pow(2).sum().sqrt()  # BUG
        loss = loss + gap
        loss.backward()
        optimizer.step()


def with_accumulation(model: Any, optimizer: Any, guard: Guard) -> None:
    optimizer.zero_grad()
    for number in range(4):
        target = Y + (1.0 if number < 3 else 0.0)
        loss = (model(X).squeeze(-1) * target.log()).mean() / 4  # BUG
        loss.backward()
    optimizer.step()


def with_a_conditional(model: Any, optimizer: Any, guard: Guard) -> None:
    use_log = True
    optimizer.zero_grad()
    output = model(X).squeeze(-1)
    if use_log:
        target = Y.log()  # BUG
    else:
        target = Y
    loss = (output * target).mean()
    if loss is not None:
        loss.backward()
    optimizer.step()


def with_a_change_in_place(model: Any, optimizer: Any, guard: Guard) -> None:
    optimizer.zero_grad()
    output = model(X).squeeze(-1)
    target = Y.clone()
    target[1] = 5.0
    target.log_()  # BUG
    loss = (output * target).mean()
    loss.backward()
    optimizer.step()


def with_a_closure(model: Any, optimizer: Any, guard: Guard) -> None:
    def closure() -> Any:
        optimizer.zero_grad()
        loss = (model(X).squeeze(-1) * Y.log()).mean()  # BUG
        loss.backward()
        return loss

    optimizer.step(closure)


def without_the_model_itself_being_called(model: Any, optimizer: Any, guard: Guard) -> None:
    optimizer.zero_grad()
    hidden = model[0](X)
    loss = (model[3](hidden).squeeze(-1) * Y.log()).mean()  # BUG
    loss.backward()
    optimizer.step()


LOOPS = [
    inline,
    in_one_statement,
    before_the_model_is_called,
    with_the_input_given_another_value,
    with_autocast_and_a_scaler,
    with_all_of_it_in_autocast,
    with_a_helper,
    with_backward_by_the_guard,
    in_a_method,
    with_two_calls_of_the_model,
    with_accumulation,
    with_a_conditional,
    with_a_change_in_place,
    with_a_closure,
    without_the_model_itself_being_called,
]


def trip(loop: Callable[..., None], **options: Any) -> tuple[Diagnosis, Guard]:
    model, optimizer = make()
    with Guard(model, optimizer, **options) as guard, pytest.raises(NonFiniteError) as caught:
        loop(model, optimizer, guard)
    return caught.value.diagnosis, guard


def marked_line(function: Callable[..., Any]) -> int:
    source, start = inspect.getsourcelines(function)
    return next(start + offset for offset, line in enumerate(source) if "# BUG" in line)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_line_of_a_loop_is_named(loop: Callable[..., None]) -> None:
    diagnosis, guard = trip(loop)
    assert (Path(diagnosis.filename or "").name, diagnosis.lineno) == (Path(__file__).name, marked_line(loop)), str(
        diagnosis
    )
    assert not [finding.detail for finding in guard.report().findings if finding.code == "DC005"]


def test_counting_and_logging_are_not_replayed() -> None:
    counted: list[float] = []
    state = {"steps": 0}

    def loop(model: Any, optimizer: Any, guard: Guard) -> None:
        optimizer.zero_grad()
        loss = (model(X).squeeze(-1) * Y.log()).mean()
        state["steps"] += 1
        counted.append(loss.item())
        print("once")
        loss.backward()
        optimizer.step()

    diagnosis, _ = trip(loop)
    assert diagnosis.cause == "log-of-zero-or-negative"
    assert len(counted) == state["steps"] == 1


def test_a_value_that_has_changed_since_is_used_as_it_is() -> None:
    def loop(model: Any, optimizer: Any, guard: Guard) -> None:
        target = Y + 1.0
        target = target - 3.0
        optimizer.zero_grad()
        loss = (model(X).squeeze(-1) * target.log()).mean()  # BUG
        loss.backward()
        optimizer.step()

    diagnosis, _ = trip(loop)
    assert diagnosis.lineno == marked_line(loop)
    assert diagnosis.cause == "log-of-zero-or-negative"


def test_a_loss_replay_draws_the_same_random_numbers() -> None:
    def loop(model: Any, optimizer: Any, guard: Guard) -> None:
        for _ in range(300):
            optimizer.zero_grad()
            output = model(X)
            draw = torch.rand(())
            loss = output.mean() * torch.where(draw > 0.98, (draw - draw).log(), draw)  # BUG
            loss.backward()
            optimizer.step()

    diagnosis, _ = trip(loop)
    assert diagnosis.lineno == marked_line(loop)


def test_a_loss_replay_leaves_weights_buffers_and_generators_unchanged() -> None:
    model, optimizer = make()
    guard = Guard(model, optimizer, on_trip="skip")
    before = [tensor.clone() for tensor in model.state_dict().values()]
    torch.manual_seed(5)
    inline(model, optimizer, guard)
    after = torch.rand(2)
    other, _ = make()
    torch.manual_seed(5)
    for _ in range(2):
        other(X)
    assert torch.equal(after, torch.rand(2))
    assert all(torch.equal(one, other) for one, other in zip(before, model.state_dict().values(), strict=True))


def test_a_trip_is_explained_even_if_the_replayed_code_raises() -> None:
    calls: list[int] = []

    def once() -> float:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("only once")
        return math.nan

    def loop(model: Any, optimizer: Any, guard: Guard) -> None:
        optimizer.zero_grad()
        loss = model(X).mean() * once()
        loss.backward()
        optimizer.step()

    diagnosis, guard = trip(loop)
    assert diagnosis.cause == "unknown"
    notes = [finding.detail for finding in guard.report().findings if finding.code == "DC005"]
    assert any("only once" in note for note in notes)


def test_a_trip_is_explained_even_without_source_code() -> None:
    program = (
        "def loop(model, optimizer, guard):\n"
        "    optimizer.zero_grad()\n"
        "    (model(X).squeeze(-1) * Y.log()).mean().backward()\n"
        "    optimizer.step()\n"
    )
    names: dict[str, Any] = {"X": X, "Y": Y}
    exec(compile(program, "<nowhere>", "exec"), names)
    diagnosis, _ = trip(names["loop"])
    assert diagnosis.cause == "unknown"
    assert "guard.step(loss_fn, batch)" in diagnosis.remedy


@pytest.mark.parametrize("by_next", [False, True])
def test_samples_are_named_and_no_batch_is_fetched(by_next: bool) -> None:
    bad = {"x": X.clone(), "y": Y}
    bad["x"][3, 1] = math.nan
    fetched: list[int] = []

    def batches() -> Iterator[dict[str, Any]]:
        for batch in ({"x": X, "y": Y}, bad, {"x": X, "y": Y}):
            fetched.append(1)
            yield batch

    def step(model: Any, optimizer: Any, batch: Any) -> None:
        optimizer.zero_grad()
        loss = (model(batch["x"]).squeeze(-1) - batch["y"]).pow(2).mean()
        loss.backward()
        optimizer.step()

    def loop(model: Any, optimizer: Any, guard: Guard) -> None:
        iterator = batches()
        if not by_next:
            for batch in iterator:
                step(model, optimizer, batch)
        while True:
            batch = next(iterator)
            x, y = batch["x"], batch["y"]
            optimizer.zero_grad()
            loss = (model(x).squeeze(-1) - y).pow(2).mean()
            loss.backward()
            optimizer.step()

    diagnosis, _ = trip(loop)
    assert (diagnosis.cause, diagnosis.samples) == ("input-not-finite", (3,))
    assert (diagnosis.field or "").endswith("x")
    assert len(fetched) == 2


def test_a_loss_that_is_finite_when_replayed_is_not_reproducible() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    factors = iter([math.nan, 1.0])

    def loop() -> None:
        loss = (model(X).squeeze(-1) * next(factors)).mean()
        loss.backward()
        optimizer.step()

    with Guard(model, optimizer), pytest.raises(NonFiniteError) as caught:
        loop()
    assert caught.value.diagnosis.cause == "not-reproducible"
    assert "not known to the guard" not in caught.value.diagnosis.explanation


def test_an_input_that_differs_when_recomputed_is_named() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = iter([torch.sqrt(X), X])

    def loss_of(model: nn.Module) -> torch.Tensor:
        loss: torch.Tensor = model(next(inputs) * 1.0).mean()
        return loss

    def loop() -> None:
        loss = loss_of(model)
        loss.backward()
        optimizer.step()

    with Guard(model, optimizer), pytest.raises(NonFiniteError) as caught:
        loop()
    diagnosis = caught.value.diagnosis
    assert diagnosis.cause == "constant-not-finite"
    assert "a tensor from outside the step" in diagnosis.explanation
    assert "guard.step(loss_fn, batch)" in diagnosis.remedy


@pytest.mark.parametrize("num_sound", [0, 1, 5])
@pytest.mark.parametrize("goes_into", ["the model", "the loss"])
def test_numbers_drawn_before_the_model_call_are_drawn_again(num_sound: int, goes_into: str) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    schedule = torch.linspace(1.001, 0.5, 64)

    def loss_of(model: nn.Module, x: torch.Tensor, limit: float) -> torch.Tensor:
        share = schedule[torch.randint(0, 64, (4, 1))]
        noise = torch.sqrt(1 - share.clamp(max=limit))  # BUG
        loss: torch.Tensor
        if goes_into == "the model":
            loss = model(x * share + noise * torch.randn(4, 3)).square().mean()
        else:
            loss = (model(x) * noise).mean()
        return loss

    def loop() -> None:
        for step in range(400):
            optimizer.zero_grad()
            loss = loss_of(model, X, 1.0 if step < num_sound else 2.0)
            loss.backward()
            optimizer.step()

    torch.manual_seed(0)
    with Guard(model, optimizer), pytest.raises(NonFiniteError) as caught:
        loop()
    diagnosis = caught.value.diagnosis
    source, start = inspect.getsourcelines(test_numbers_drawn_before_the_model_call_are_drawn_again)
    assert diagnosis.cause == "domain-error"
    assert diagnosis.lineno in {start + number for number, line in enumerate(source) if "# BUG" in line}
