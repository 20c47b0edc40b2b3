"""A guard around loops as people write them names the line at fault, and changes nothing where nothing is wrong."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from gradient_programs import EARLY, sharpness_aware  # noqa: E402
from loop_programs import PROGRAMS, Program, inputs, mlp, sgd  # noqa: E402

from datacheck.torch import Guard, NonFiniteError  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_line_at_fault_is_named(program: Program) -> None:
    with pytest.raises((NonFiniteError, AssertionError)) as caught:
        program.run(True, Guard)
    if isinstance(caught.value, NonFiniteError):
        found = caught.value.diagnosis
        assert found.cause in program.causes, str(found)
        assert found.lineno in program.lines or not program.lines, str(found)
        assert program.samples is None or found.samples == program.samples, str(found)
        return
    noted = "\n".join(caught.value.__notes__)
    assert any(cause in noted for cause in program.causes)
    assert any(f"{program.file}:{line}" in noted for line in program.lines)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_weights_are_bit_for_bit_those_without_a_guard(program: Program) -> None:
    def none(*_: Any) -> Any:
        return nullcontext()

    plain, guarded = program.run(False, none), program.run(False, Guard)
    for one, other in zip(plain.parameters(), guarded.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("run", EARLY, ids=lambda run: run.__name__)
def test_a_skipped_step_leaves_weights_alone_that_the_loop_changes_itself(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards: list[Guard] = []

    def skips(model: Any, optimizer: Any) -> Guard:
        guards.append(Guard(model, optimizer, on_trip="skip"))
        return guards[0]

    skipped = run(True, skips)
    monkeypatch.setattr("gradient_programs.inputs", lambda _: [inputs(False)[0], inputs(False)[2]])
    for one, other in zip(skipped.parameters(), run(False, lambda *_: nullcontext()).parameters(), strict=True):
        assert torch.equal(one, other)
    findings = guards[0].report().findings
    assert [finding.rule for finding in findings if finding.code == "DC460"] == ["skip"]


def test_a_step_that_is_checked_early_has_one_anomaly() -> None:
    guards: list[Guard] = []

    def warns(model: Any, optimizer: Any) -> Guard:
        guards.append(Guard(model, optimizer, on_trip="warn"))
        return guards[0]

    sharpness_aware(True, warns)
    acts = [finding.message for finding in guards[0].report().findings if finding.code == "DC460"]
    assert acts == [f"warn: DC450 at step {step} (step {step})" for step in (2, 3)]


def assign(model: Any, loss: torch.Tensor) -> None:
    for parameter, gradient in zip(model.parameters(), torch.autograd.grad(loss, model.parameters()), strict=True):
        parameter.grad = gradient


@pytest.mark.parametrize("is_guarded", [True, False])
def test_gradients_of_another_model_with_the_same_shapes_are_none_of_a_guards_business(is_guarded: bool) -> None:
    model, other = mlp(), mlp()
    optimizer, others = sgd(model), sgd(other)
    with Guard(model, optimizer) as guard, Guard(other, others, on_trip="skip") if is_guarded else nullcontext():
        for x in inputs(False):
            assign(other, other(x).sum() * math.nan)
            if is_guarded:
                others.step()
            assign(model, model(x).square().mean())
            optimizer.step()
    assert guard.report().ok


def test_the_weights_of_a_copy_are_not_called_those_before_the_step() -> None:
    model = mlp(1)
    optimizer = sgd(model)

    def train() -> None:
        for x in inputs(True):
            learner = copy.deepcopy(model)
            inner = sgd(learner)
            (learner(x) - torch.log(x)).square().mean().backward()
            inner.step()
            gradients = torch.autograd.grad(learner(x).square().mean(), list(learner.parameters()))
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()

    with Guard(model, optimizer), pytest.raises(NonFiniteError) as caught:
        train()
    assert caught.value.diagnosis.cause == "unknown"
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_two_losses_of_one_batch_are_not_called_micro_batches() -> None:
    model = mlp()
    optimizer = sgd(model)

    def train() -> None:
        for x in inputs(True):
            output = model(x)
            first, second = output[:, 0].square().mean(), (output[:, 1] * torch.log(x).sum(1)).mean()
            one = torch.autograd.grad(first, list(model.parameters()), retain_graph=True)
            other = torch.autograd.grad(second, list(model.parameters()))
            for parameter, a, b in zip(model.parameters(), one, other, strict=True):
                parameter.grad = a + b
            optimizer.step()

    with Guard(model, optimizer), pytest.raises(NonFiniteError) as caught:
        train()
    assert caught.value.diagnosis.cause == "log-of-zero-or-negative"
    assert "micro-batch" not in str(caught.value.diagnosis)


def test_weights_that_are_nan_from_the_start_do_not_seem_to_move() -> None:
    model = mlp()
    optimizer = sgd(model)
    with torch.no_grad():
        model[0].weight[0, 0] = math.nan
    with Guard(model, optimizer, on_trip="skip") as guard:
        for x in inputs(False)[:2]:
            model(x).square().mean().backward()
        optimizer.step()
    assert "changes the weights itself" not in str(guard.report())
    assert "micro-batch 1 of 2" in str(guard.report())
