"""The code of a loop is replayed from the beginning of a step, wherever its loss is computed."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from datacheck.torch import Diagnosis, Guard, NonFiniteError  # noqa: E402
from datacheck.torch.guard.statements import line_storing  # noqa: E402

pytestmark = pytest.mark.torch

Batch = tuple[torch.Tensor, torch.Tensor]
Loop = Callable[[Any, Any, list[Batch]], None]
#: The batch that is bad, and the sample in it.
BAD, SAMPLE = 3, 2


def data() -> list[Batch]:
    torch.manual_seed(1)
    batches = [(torch.randn(4, 3), torch.rand(4) + 0.5) for _ in range(6)]
    batches[BAD][0][SAMPLE] = 0.5
    batches[BAD][1][SAMPLE] = 0.0
    return batches


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=1e-3)


def scaled_in_the_loop(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    for x, y in batches:
        x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)  # BUG
        optimizer.zero_grad()
        loss = F.mse_loss(model(x).squeeze(1), y)
        loss.backward()
        optimizer.step()


def scaled_in_the_loop_over_a_loader(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    xs, ys = zip(*batches, strict=True)
    dataset = torch.utils.data.TensorDataset(torch.cat(xs), torch.cat(ys))
    loader = torch.utils.data.DataLoader(dataset, batch_size=4)
    for _, (x, y) in enumerate(loader):
        x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)  # BUG
        optimizer.zero_grad()
        loss = F.mse_loss(model(x).squeeze(1), y)
        loss.backward()
        optimizer.step()


def targets_from_a_helper(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    def encode(y: Any) -> Any:
        return torch.log(y)  # BUG

    for x, y in batches:
        target = encode(y)
        optimizer.zero_grad()
        loss = F.mse_loss(model(x).squeeze(1), target)
        loss.backward()
        optimizer.step()


def a_trainer_with_methods(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    class Base:
        def compute_loss(self, output: Any, y: Any) -> Any:
            return (output / y).mean()  # BUG

    class Trainer(Base):
        def __init__(self) -> None:
            self.__model = model
            self.losses: list[float] = []

        def compute_loss(self, output: Any, y: Any) -> Any:
            return super().compute_loss(output, y) * 2

        def training_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            y = batch.pop("y")
            return {"loss": self.compute_loss(self.__model(**batch).squeeze(1), y)}

        def backward(self, loss: Any) -> None:
            loss.backward()

        def clip_(self) -> None:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)

        def fit(self) -> None:
            for x, y in batches:
                optimizer.zero_grad()
                result = self.training_step({"input": x, "y": y})
                self.backward(result["loss"])
                self.losses.append(result["loss"].item())
                self.clip_()
                optimizer.step()

    Trainer().fit()


def the_second_of_four_micro_batches(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    optimizer.zero_grad()
    for number, (x, y) in enumerate(batches[BAD - 1 :] + batches[:1]):
        weight = torch.log(y)  # BUG
        loss = (model(x).squeeze(1) * weight).mean() / 4
        loss.backward()
        if number == 3:
            optimizer.step()


def a_gradient_in_the_second_of_four_micro_batches(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    optimizer.zero_grad()
    for number, (x, y) in enumerate(batches[BAD - 1 :] + batches[:1]):
        output = model(x).squeeze(1) * y
        loss = output.square().sqrt().mean() / 4  # BUG
        loss.backward()
        if number == 3:
            optimizer.step()


def several_losses_at_once(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    for x, y in batches:
        output = model(x).squeeze(1)
        first = output.square().mean()
        second = torch.log(output.square() * y).mean()  # BUG
        torch.autograd.backward([first, second])
        optimizer.step()
        optimizer.zero_grad()


def a_loss_in_an_inner_loop_over_outputs(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    for x, y in batches:
        optimizer.zero_grad()
        total = torch.zeros(())
        for output, target in zip(model(x), y, strict=True):
            total = total + (output / target).sum()  # BUG
        total.backward()
        optimizer.step()


def a_distribution_that_holds_the_graph(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    for x, y in batches:
        policy = torch.distributions.Bernoulli(logits=model(x).squeeze(1))
        advantage = torch.log(y)  # BUG
        loss = -(policy.log_prob(policy.sample()) * advantage).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def a_state_that_is_carried_on(model: Any, optimizer: Any, batches: list[Batch]) -> None:
    hidden = torch.zeros(4, 3)
    for x, y in batches:
        hidden = torch.tanh(model(x + hidden.detach())).expand(4, 3)
        loss = (hidden.sum(1) * y.log()).mean()  # BUG
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


LOOPS: list[Loop] = [
    scaled_in_the_loop,
    scaled_in_the_loop_over_a_loader,
    targets_from_a_helper,
    a_trainer_with_methods,
    the_second_of_four_micro_batches,
    a_gradient_in_the_second_of_four_micro_batches,
    several_losses_at_once,
    a_loss_in_an_inner_loop_over_outputs,
    a_distribution_that_holds_the_graph,
    a_state_that_is_carried_on,
]


def marked_line(function: Callable[..., Any]) -> int:
    source, start = inspect.getsourcelines(function)
    return next(start + offset for offset, line in enumerate(source) if "# BUG" in line)


def trip(loop: Loop, **options: Any) -> Diagnosis:
    model, optimizer = make()
    batches = data()
    with pytest.raises(NonFiniteError) as caught, Guard(model, optimizer, **options):
        loop(model, optimizer, batches)
    return caught.value.diagnosis


@pytest.mark.parametrize("loop", LOOPS)
def test_the_line_is_named_wherever_the_loss_is_computed(loop: Loop) -> None:
    found = trip(loop)
    assert (Path(found.filename or "").name, found.lineno) == (Path(__file__).name, marked_line(loop)), str(found)
    assert found.cause not in ("unknown", "constant-not-finite", "input-not-finite")


@pytest.mark.parametrize("loop", [scaled_in_the_loop, scaled_in_the_loop_over_a_loader, targets_from_a_helper])
def test_the_sample_is_named_by_its_raw_values(loop: Loop) -> None:
    assert trip(loop).samples == (SAMPLE,)


def test_a_value_whose_origin_is_gone_is_named_and_no_cause_is_stated() -> None:
    def loop(model: Any, optimizer: Any, batches: list[Batch]) -> None:
        for x, y in (batch for batch in batches):
            x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)  # BUG
            loss = F.mse_loss(model(x).squeeze(1), y)
            loss.backward()
            optimizer.step()

    found = trip(loop)
    assert (found.cause, found.lineno) == ("unknown", marked_line(loop))
    assert "'x' was non-finite" in found.explanation


def test_a_batch_that_is_only_moved_is_an_input() -> None:
    def loop(model: Any, optimizer: Any, batches: list[Batch]) -> None:
        for x, y in iter(batches):
            x, y = x.to("cpu"), y.float()
            loss = F.mse_loss(model(x).squeeze(1), y)
            loss.backward()
            optimizer.step()

    model, optimizer = make()
    batches = data()
    batches[BAD][0][SAMPLE] = math.nan
    with Guard(model, optimizer), pytest.raises(NonFiniteError) as caught:
        loop(model, optimizer, batches)
    assert (caught.value.diagnosis.cause, caught.value.diagnosis.samples) == ("input-not-finite", (SAMPLE,))


def test_replaying_fetches_counts_and_updates_nothing() -> None:
    fetched: list[int] = []
    logged: list[float] = []

    def batches_of(batches: list[Batch]) -> Iterator[Batch]:
        for batch in batches:
            fetched.append(1)
            yield batch

    def loop(model: Any, optimizer: Any, batches: list[Batch]) -> None:
        source = batches_of(batches)
        for number in range(len(batches)):
            x, y = next(source)
            optimizer.zero_grad()
            loss = (model(x).squeeze(1) * y.log()).mean()  # BUG
            logged.append(number)
            loss.backward()
            optimizer.step()

    model, optimizer = make()
    with Guard(model, optimizer, on_trip="skip") as guard:
        loop(model, optimizer, data())
    assert (len(fetched), logged) == (6, [0, 1, 2, 3, 4, 5])
    found = guard.last_diagnosis
    assert found is not None
    assert (found.cause, found.lineno) == ("log-of-zero-or-negative", marked_line(loop))
    plain, plain_optimizer = make()
    kept = [batch for number, batch in enumerate(data()) if number != BAD]
    loop(plain, plain_optimizer, kept)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_model_that_the_function_makes_is_not_made_again() -> None:
    def train() -> None:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        table = torch.randn(4)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        with Guard(model, optimizer):
            for x, y in data():
                loss = (model(x).squeeze(1) * table * y.log()).mean()  # BUG
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    with pytest.raises(NonFiniteError) as caught:
        train()
    assert caught.value.diagnosis.lineno == marked_line(train)


@pytest.mark.parametrize("kind", ["SystemExit", "assert", "IndexError", "KeyError"])
def test_an_error_of_any_kind_gets_the_diagnosis_as_a_note(kind: str) -> None:
    def loop(model: Any, optimizer: Any, batches: list[Batch]) -> None:
        for x, y in batches:
            share = (y - y) / y  # BUG
            loss = (model(x).squeeze(1) * share).mean()
            if kind == "SystemExit" and not torch.isfinite(loss):
                raise SystemExit(1)
            if kind == "assert":
                assert not loss.isnan()
            if kind == "IndexError":
                y = y[share.long()]
            if kind == "KeyError" and loss.isnan():
                raise KeyError("loss")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    model, optimizer = make()
    with pytest.raises((SystemExit, AssertionError, IndexError, KeyError)) as caught, Guard(model, optimizer):
        loop(model, optimizer, data())
    (note,) = caught.value.__notes__
    assert "division-by-zero" in note
    assert f"{Path(__file__).name}:{marked_line(loop)}" in note


@pytest.mark.parametrize("leaves", [False, True])
def test_a_nan_that_the_loop_gives_up_is_found_at_the_next_step_or_at_the_end(leaves: bool) -> None:
    def loop(model: Any, optimizer: Any, batches: list[Batch]) -> None:
        for x, y in batches:
            loss = (model(x).squeeze(1) * y.log()).mean()  # BUG
            if not torch.isfinite(loss):
                if leaves:
                    break
                continue
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    found = trip(loop)
    assert (found.cause, found.lineno, found.step) == ("log-of-zero-or-negative", marked_line(loop), BAD + 1)


def test_sampling_without_gradients_begins_a_step() -> None:
    def loop(model: Any, optimizer: Any, batches: list[Batch]) -> None:
        for x, y in batches:
            with torch.no_grad():
                odds = (model(x).squeeze(1).exp() / y).softmax(0)  # BUG
                chosen = torch.multinomial(odds, 1)
            loss = model(x)[chosen].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    model, optimizer = make()
    with pytest.raises(RuntimeError) as caught, Guard(model, optimizer):
        loop(model, optimizer, data())
    (note,) = caught.value.__notes__
    assert note.startswith(f"step {BAD + 1}: ")
    assert f"{Path(__file__).name}:{marked_line(loop)}" in note


def test_an_error_in_a_loop_over_outputs_is_traced_with_the_outputs_of_its_own_step() -> None:
    def check(value: torch.Tensor) -> None:
        if not value.isfinite().all():
            raise ValueError("the ratio is nan")

    def loop(model: Any, optimizer: Any, batches: list[Batch]) -> None:
        for x, y in batches:
            outputs = model(x)
            loss = torch.zeros(())
            for output, target in zip(outputs, y, strict=True):
                ratio = (output - output) / target  # BUG
                check(ratio)
                loss = loss + ratio.sum() + output.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    model, optimizer = make()
    with pytest.raises(ValueError, match="ratio is nan") as caught, Guard(model, optimizer):
        loop(model, optimizer, data())
    (note,) = caught.value.__notes__
    assert "division-by-zero" in note
    assert f"{Path(__file__).name}:{marked_line(loop)}" in note


EDITED = """
import torch


def train(model, optimizer, x):
    optimizer.zero_grad()
    loss = torch.log(model(x) - 90).mean()
    loss.backward()
    optimizer.step()
"""


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("when", ["before the first step", "later", "and imported again"])
def test_code_that_did_not_run_is_not_blamed_where_its_file_was_edited(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Editing the program is what people do while it trains."""
    # Python takes the bytecode of a file for that of another of the same length in the same second.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "edited_program.py"
    path.write_text(EDITED, encoding="utf-8")
    program = imported(path)
    model, optimizer = make()
    with Guard(model, optimizer, on_trip="skip") as guard:
        if when == "later":
            program.train(model, optimizer, torch.full((2, 3), math.inf))
        path.write_text(EDITED.replace("torch.log(model(x) - 90)", "torch.sqrt(model(x) - 9)"), encoding="utf-8")
        if when == "and imported again":
            program = imported(path)
        program.train(model, optimizer, torch.rand(2, 3))
    found = guard.last_diagnosis
    assert found is not None
    texts = [finding.message for finding in guard.report().findings]
    assert any("was edited after it was imported" in text for text in texts) == (when == "before the first step")
    expected = {
        "later": "log-of-zero-or-negative",
        "before the first step": "unknown",
        "and imported again": "domain-error",
    }
    assert found.cause == expected[when]


def overwritten_by_operators(model: Any, optimizer: Any, batch: dict[str, Any]) -> None:
    for b in [batch]:
        x = b["x"]
        x -= x.mean(1, keepdim=True)
        x /= x.std(1, keepdim=True)
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()


def overwritten_by_a_method(model: Any, optimizer: Any, batch: dict[str, Any]) -> None:
    for b in [batch]:
        x = b["x"]
        x.log_()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("loop", [overwritten_by_operators, overwritten_by_a_method])
def test_values_that_the_loop_has_overwritten_are_not_blamed(loop: Callable[..., None]) -> None:
    model, optimizer = make()
    batch = {"x": torch.rand(4, 3) + 0.1}
    batch["x"][1] = 0.0
    with pytest.raises(NonFiniteError) as caught, Guard(model, optimizer):
        loop(model, optimizer, batch)
    found = caught.value.diagnosis
    assert (found.cause, found.lineno) == ("unknown", None), str(found)
    assert "in place before it computes the loss" in found.explanation
    assert "is not verified" in found.explanation


def test_the_line_that_stores_a_name_is_found_in_the_blocks_around_it() -> None:
    source = "try:\n    with a:\n        x = b()\nfinally:\n    y = c()\nif d:\n    z = 1\nelse:\n    z = 2\n"
    around, branches = ast.parse(source).body
    assert [line_storing(name, around, {}) for name in "xy"] == [3, 5]
    assert line_storing("z", branches, {}) == 6


def test_an_infinity_of_code_that_cannot_run_again_is_not_called_meant() -> None:
    model, optimizer = make()
    left = [torch.zeros(2, 3)]
    with Guard(model, optimizer, on_trip="skip") as guard:
        for x in [torch.rand(2, 3)]:
            scale = left.pop().log()
            loss = (model(x) * scale).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found = guard.last_diagnosis
    assert found is not None
    assert (found.cause, found.source) == ("unknown", "scale = left.pop().log()"), str(found)
    assert "is not verified" in found.explanation
