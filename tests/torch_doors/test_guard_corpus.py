"""A guard finds the planted defects, with guard.step and around a loop, and leaves harmless programs alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from corpus import DEFECTS, HARMLESS, Defect, Harmless, Step  # noqa: E402
from torch import nn  # noqa: E402

from datacheck.torch import Guard, NonFiniteError  # noqa: E402

pytestmark = pytest.mark.torch


def trains(step: Step) -> bool:
    return isinstance(step.model, nn.Module) and any(p.requires_grad for p in step.model.parameters())


def train(step: Step, mode: str, watch: str) -> None:
    model: Any = step.model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _train(step, model, mode, watch)


def _train(step: Step, model: Any, mode: str, watch: str) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-9)
    with Guard(model, optimizer, watch=watch) as guard:
        if mode == "step":
            guard.step(step.loss_fn, step.batch)
            return
        batch = step.batch
        loss = step.loss_fn(model, batch)
        guard.backward(loss)
        optimizer.step()


def build(program: Defect | Harmless) -> Step:
    torch.manual_seed(0)
    step: Step = program.build()
    if not trains(step):
        pytest.skip("there is no model to train")
    return step


@pytest.mark.parametrize("program", DEFECTS, ids=lambda program: program.name)
@pytest.mark.parametrize("mode", ["step", "loop"])
def test_a_guard_names_the_line_and_the_cause(program: Defect, mode: str) -> None:
    step = build(program)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what a loop's own code raises is left as it is
        train(step, mode, "step")
    if not isinstance(caught.value, NonFiniteError):
        noted = "\n".join(caught.value.__notes__)
        assert program.cause in noted
        assert any(f"{Path(program.filename).name}:{line}" in noted for line in program.lines)
        return
    diagnosis = caught.value.diagnosis
    assert diagnosis.cause == program.cause, str(diagnosis)
    assert Path(diagnosis.filename or "").name == Path(program.filename).name
    assert diagnosis.lineno in program.lines


@pytest.mark.parametrize("program", HARMLESS, ids=lambda program: program.name)
@pytest.mark.parametrize(("mode", "watch"), [("step", "layers"), ("loop", "step")])
def test_a_guard_leaves_harmless_programs_alone(program: Harmless, mode: str, watch: str) -> None:
    train(build(program), mode, watch)
