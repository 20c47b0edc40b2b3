from __future__ import annotations

import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from corpus import DEFECTS, HARMLESS, TRAINING_DEFECTS, Defect, Harmless, TrainingDefect  # noqa: E402

from datacheck.torch import Diagnosis, Guard, NonFiniteError, diagnose  # noqa: E402
from datacheck.torch.diagnosis.record import family_of  # noqa: E402

pytestmark = pytest.mark.torch


def run(program: Defect | Harmless) -> Diagnosis | None:
    torch.manual_seed(0)
    step = program.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return diagnose(step.loss_fn, *step.arguments)


@pytest.mark.parametrize("program", DEFECTS, ids=lambda program: program.name)
def test_names_the_planted_defect(program: Defect) -> None:
    diagnosis = run(program)
    assert diagnosis is not None, "silent"
    print(diagnosis)
    found = (diagnosis.cause, diagnosis.phase, Path(diagnosis.filename or "").name, diagnosis.lineno)
    assert program.lines, "no line is marked"
    assert found == (program.cause, program.phase, Path(program.filename).name, found[3])
    assert diagnosis.lineno in program.lines
    if program.ops:
        assert family_of(diagnosis.op or "") in {op.strip("_") for op in program.ops}
    if program.samples is not None:
        assert diagnosis.samples == program.samples
    if program.field is not None:
        assert diagnosis.field == program.field
    if program.module is not None:
        assert diagnosis.module == program.module


@pytest.mark.parametrize("program", HARMLESS, ids=lambda program: program.name)
def test_reports_nothing_for_bad_values_that_never_reach_the_loss(program: Harmless) -> None:
    assert run(program) is None


@pytest.mark.parametrize("program", TRAINING_DEFECTS, ids=lambda program: program.name)
def test_a_guarded_run_ends_with_the_cause(program: TrainingDefect) -> None:
    torch.manual_seed(0)
    training = program.build()
    guard = Guard(training.model, training.optimizer)

    def train() -> None:
        for batch in training.batches:
            guard.step(training.loss_fn, batch)
            if training.scheduler is not None:
                training.scheduler.step()

    with guard, pytest.raises(NonFiniteError) as caught:
        train()
    print(caught.value.diagnosis)
    assert caught.value.diagnosis.cause == program.cause
    assert program.phase in (None, caught.value.diagnosis.phase)


def test_the_corpus_is_large_enough_to_mean_something() -> None:
    assert len(DEFECTS) >= 60
    assert len(HARMLESS) >= 25
