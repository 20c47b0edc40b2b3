"""Code of a loop that changes what it reads, draws its batches, or is compiled: what runs again, and what is said of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from datacheck.torch import Diagnosis, Guard, NonFiniteError, diagnose  # noqa: E402

pytestmark = pytest.mark.torch

Loop = Callable[[Any, Any, Any], None]


def trip(loop: Loop, batches: Any, model: nn.Module | None = None) -> Diagnosis:
    if model is None:
        model = nn.Linear(3, 1, bias=False)
        nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    with pytest.raises(NonFiniteError) as caught, Guard(model, optimizer):
        loop(model, optimizer, batches)
    return caught.value.diagnosis


def line_of(function: Callable[..., Any]) -> int:
    """The line that is marked in a function."""
    first = function.__code__.co_firstlineno
    lines = Path(__file__).read_text().splitlines()
    return next(number for number in range(first, len(lines) + 1) if "# BUG" in lines[number - 1])


class Decaying:
    """A trainer whose step changes its own attribute after it read it."""

    def __init__(self, model: Any, optimizer: Any) -> None:
        self.model, self.optimizer, self.weight = model, optimizer, torch.tensor(2.0)

    def step(self, x: torch.Tensor) -> None:
        output = self.model(x)
        factor = 1 / self.weight  # BUG
        self.weight = self.weight - 1
        loss = factor * output.square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def test_a_value_made_of_an_attribute_that_has_changed_is_no_input() -> None:
    trainers: list[Decaying] = []

    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        trainer = Decaying(model, optimizer)
        trainers.append(trainer)
        for x in batches:
            trainer.step(x)

    found = trip(loop, [torch.rand(4, 3) for _ in range(4)])
    assert (found.cause, found.phase, found.lineno) == ("unknown", "loss", line_of(Decaying.step))
    assert "'factor' was non-finite" in found.explanation
    # The replays have not changed it again.
    assert trainers[0].weight == -1


def test_a_batch_that_is_drawn_from_a_buffer_is_not_drawn_again() -> None:
    buffer = [(torch.rand(3), 1.0 if number != 5 else float("nan")) for number in range(8)]

    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        draw = random.Random(0)
        for _ in range(9):
            states, rewards = zip(*draw.sample(buffer, 6), strict=True)
            states, rewards = torch.stack(states), torch.tensor(rewards)
            with torch.no_grad():
                wanted = rewards + 0.9 * model(states).squeeze(1)
            loss = nn.functional.mse_loss(model(states).squeeze(1), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    found = trip(loop, None)
    assert (found.cause, found.field) == ("input-not-finite", "rewards")


def test_a_loop_that_sets_its_seed_is_replayed_with_what_it_drew() -> None:
    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        rates = torch.linspace(0, 0.1, 10)
        torch.manual_seed(0)
        for x in batches:
            step = torch.randint(0, 10, (4,))
            noise = torch.randn_like(x)
            weight = 1 / rates[step]  # BUG
            loss = (weight.clamp(max=5) * (model(x) - noise).square().mean(1)).mean() + (weight * 0).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    torch.manual_seed(1)
    found = trip(loop, [torch.rand(4, 3) for _ in range(9)])
    assert (found.cause, found.lineno) == ("division-by-zero", line_of(loop))


def test_the_line_that_computed_with_numpy_in_the_loop_is_named() -> None:
    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        for row in batches:
            with np.errstate(all="ignore"):
                row = (row - row.mean(1, keepdims=True)) / row.std(1, keepdims=True)  # BUG
            loss = model(torch.from_numpy(row)).square().mean()
            loss.backward()
            optimizer.step()

    batches = [np.random.default_rng(number).normal(size=(4, 3)).astype(np.float32) for number in range(3)]
    batches[1][2] = 7
    found = trip(loop, batches)
    assert (found.lineno, found.samples) == (line_of(loop), (2,))


def test_a_batch_that_the_loop_changes_in_place_is_no_bad_input() -> None:
    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        for x in batches:
            x -= x.mean(1, keepdim=True)
            x /= x.std(1, keepdim=True)  # BUG
            model(x).square().mean().backward()
            optimizer.step()

    batches = [torch.rand(4, 3) for _ in range(3)]
    batches[1][2] = 5
    found = trip(loop, batches)
    assert (found.cause, found.lineno) == ("unknown", line_of(loop))
    assert batches[1][2].isnan().all()
    assert batches[2].isfinite().all()


def test_what_was_there_before_the_loop_is_no_input_of_its_batches() -> None:
    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        weights = 1 / torch.tensor([1.0, 0.0, 2.0])
        for x, y in batches:
            loss = (model(x).square().squeeze(1) * weights[y]).mean()
            loss.backward()
            optimizer.step()

    found = trip(loop, [(torch.rand(4, 3), torch.tensor([0, 2, 1, 0]))])
    assert (found.cause, found.phase) == ("constant-not-finite", "loss")


def test_a_check_of_a_loop_that_meets_an_infinity_gets_the_diagnosis() -> None:
    def check(values: Any) -> Any:
        assert bool(values.isfinite().all()), "broken"
        return values

    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        for x in batches:
            loss = check(torch.log(model(x).relu())).mean()  # BUG
            loss.backward()
            optimizer.step()

    model = nn.Linear(3, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    guard = Guard(model, optimizer)
    with pytest.raises(AssertionError) as caught, guard:
        loop(model, optimizer, [torch.rand(4, 3) + 0.1, -torch.ones(4, 3)])
    assert "log received 0" in "".join(caught.value.__notes__)
    assert guard.last_diagnosis is not None
    assert guard.last_diagnosis.lineno == line_of(loop)


def test_the_sample_is_named_where_a_function_in_the_loop_reads_the_batch() -> None:
    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        for batch in batches:

            def compute() -> torch.Tensor:
                output = model(batch["x"])  # noqa: B023
                return torch.log(output.relu()).mean()  # BUG

            loss = compute()
            (loss * 0.5).backward()
            optimizer.step()

    batches = [{"x": torch.rand(4, 3) + 0.1} for _ in range(3)]
    batches[1]["x"][2] = -1
    found = trip(loop, batches)
    assert (found.lineno, found.samples) == (line_of(loop), (2,))


def test_a_loss_of_every_sample_is_checked_with_the_weights_that_backward_is_called_with() -> None:
    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        for x, weight in batches:
            losses = torch.log(model(x).clamp(min=0)).squeeze(1)  # BUG
            losses.backward(weight)
            optimizer.step()

    batches = [(torch.rand(4, 3) + 0.1, torch.full((4,), 0.25)) for _ in range(3)]
    batches[0][0][1], batches[0][1][1] = -1, 0.0
    batches[2][0][3] = -1
    found = trip(loop, batches)
    assert (found.step, found.lineno, found.cause) == (3, line_of(loop), "log-of-zero-or-negative")


@pytest.mark.filterwarnings("ignore")  # torch warns of its own, and of grad
def test_a_step_that_is_compiled_whole_is_replayed_by_its_source() -> None:
    def loop(model: Any, optimizer: Any, batches: Any) -> None:
        @torch.compile(backend="eager")
        def step(x: torch.Tensor) -> None:
            optimizer.zero_grad()
            loss = torch.log(model(x).relu()).mean()  # BUG
            loss.backward()
            optimizer.step()

        for x in batches:
            step(x)

    batches = [torch.rand(4, 3) + 0.1 for _ in range(3)]
    batches[1][2] = -1
    found = trip(loop, batches)
    assert (found.cause, found.lineno, found.samples) == ("log-of-zero-or-negative", line_of(loop), (2,))


class Trained(nn.Module):
    """A module that computes its loss itself, as Lightning's do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 1)

    def compute(self, output: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return (output.squeeze(1).square() * keep).sum() / keep.sum()

    def training_step(self, batch: Any) -> torch.Tensor:
        return self.compute(self.net(batch["x"]), batch["keep"])


def test_what_a_training_step_computes_is_the_loss() -> None:
    found = diagnose(
        lambda model, batch: model.training_step(batch), Trained(), {"x": torch.rand(4, 3), "keep": torch.zeros(4)}
    )
    assert found is not None
    assert (found.phase, found.cause, found.module) == ("loss", "division-by-zero", "Trained")


@pytest.mark.parametrize("is_reentrant", [True, False])
def test_a_fix_inside_a_checkpointed_block_is_tried(is_reentrant: bool) -> None:
    block = nn.Linear(3, 3, bias=False)
    nn.init.eye_(block.weight)

    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.log(block(x))

    def loss_fn(_: Any, x: torch.Tensor) -> torch.Tensor:
        output: Any = checkpoint(run, x, use_reentrant=is_reentrant)
        return output.square().mean()

    x = torch.rand(4, 3) + 0.1
    x[1] = 0
    found = diagnose(loss_fn, block, x.requires_grad_())
    assert found is not None
    assert found.remedy_verified, found.remedy


def test_an_infinity_that_the_line_multiplies_by_is_a_constant() -> None:
    found = diagnose(lambda model, x: model(x).relu().sum() * float("inf"), nn.Linear(2, 1), torch.zeros(1, 2) - 9)
    assert found is not None
    assert found.cause == "constant-not-finite"


@pytest.mark.parametrize("kind", ["labels", "indices"])
def test_an_error_of_an_index_out_of_range_says_which(kind: str) -> None:
    table, weight = nn.Embedding(3, 2), nn.Linear(2, 4)

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(weight(table(batch["ids"])), batch["y"])

    batch = {"ids": torch.tensor([0, 2, 1]), "y": torch.tensor([0, 4, 1])}
    expected = "labels 4 are outside the 4 classes of the model's output; the first is at [1]"
    if kind == "indices":
        batch["ids"][2], expected = 3, "the table has 3 rows; the first outside it is at [2]"
    model = nn.ModuleList([table, weight])
    guard = Guard(model, torch.optim.SGD(model.parameters(), 0.1))
    for run in (lambda: guard.step(loss_fn, batch), lambda: diagnose(loss_fn, model, batch)):
        with pytest.raises(IndexError) as caught:
            run()
        assert expected in "".join(caught.value.__notes__)
