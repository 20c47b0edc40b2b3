"""A guard around loops as people write them names the line at fault, and changes nothing where nothing is wrong."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from gradient_programs import EARLY  # noqa: E402
from loop_programs import PROGRAMS, Program, inputs  # noqa: E402

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
