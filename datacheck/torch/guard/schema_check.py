"""Judges the batches of a step by the schema that the guard was given."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from datacheck.schema.model import Schema
from datacheck.text import ordinal_list
from datacheck.torch.diagnosis.batch_schema import BatchSchema, Violation
from datacheck.torch.diagnosis.diagnosis import PHASE_CODES, Diagnosis
from datacheck.torch.diagnosis.fixes.advice import ADVICE
from datacheck.torch.diagnosis.sample_attribution import origins_of
from datacheck.torch.guard.distributed import describe_ranks
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.step_state import MAX_PARTS, StepState
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.trip import Signals, Trip

#: Samples that a message names.
MAX_SHOWN = 8
_NOT_SEEN = (
    "the loop gets its batches from no DataLoader, and does not pass this field to the model;"
    " call guard.begin(batch) at the start of each step"
)


class SchemaCheck:
    """Finds what breaks the schema in the batches of a step whose loss and gradients are finite.

    Where those are non-finite, the diagnosis says whether the samples behind them break it.
    """

    def __init__(self, schema: Schema, training: Training, state: StepState, log: GuardLog) -> None:
        self._batches = BatchSchema(schema)
        self._names = {re.split(r"[.\[]", path)[0] for path in schema.fields if path is not None and "*" not in path}
        self._training = training
        self._state = state
        self._log = log
        self._fetched: deque[Any] = deque(maxlen=MAX_PARTS)
        self._judged_step = 0

    def add_fetched(self, batch: Any) -> None:
        """Take note of a batch that a loop has got from its DataLoader, or shows."""
        if self._training.model.training and not any(batch is one for one in self._fetched):
            self._fetched.append(batch)

    def find(self) -> tuple[Trip, Diagnosis] | None:
        """The trip of a step one of whose batches breaks the schema, on any rank; each step is judged once."""
        step, group = self._training.step, self._training.rank_group
        if step == self._judged_step:
            return None
        self._judged_step = step
        judged = ((batch, self._judge(batch, missing)) for batch, missing in self._given())
        batch, found = next((one for one in judged if one[1]), (None, []))
        ranks = group.ranks_where(bool(found)) if group else ()
        if found:
            for violation in found[1:]:
                self._log.add_finding(violation.finding)
            return self._make(found[0], batch, ranks)
        return self._made_elsewhere(ranks) if ranks else None

    def _judge(self, batch: object, missing: Collection[str]) -> list[Violation]:
        """What is wrong with a batch, or with the part of one that the model got, which lacks the ``missing`` fields."""
        found = self._batches.judge(batch, f"step {self._training.step}")
        if missing:
            found = [one for one in found if one.finding.code not in {"DC001", "DC005"}]
        for name in missing:
            self._log.add_note(name, _NOT_SEEN)
        unchecked = self._batches.unchecked
        for path, reason in unchecked.items():
            self._log.add_note(path or "the batch", f"not judged by the schema: {reason}")
        unchecked.clear()
        return found

    def _given(self) -> Iterator[tuple[Any, Collection[str]]]:
        """The batches of the step, and the fields that they lack only because they are what the model is called with.

        They are known as they were given to the guard, as a DataLoader gave them, or as the model got them.
        """
        fetched, parts = list(self._fetched), self._state.parts
        self._fetched.clear()
        if any(part.is_whole for part in parts):
            yield from ((part.batch, ()) for part in parts if part.is_whole)
        elif fetched:
            yield from ((batch, ()) for batch in fetched)
        else:
            for batch in (part.inputs for part in parts):
                yield batch, sorted(self._names.difference(batch if isinstance(batch, Mapping) else ()))

    def _make(self, violation: Violation, batch: object, ranks: tuple[int, ...]) -> tuple[Trip, Diagnosis]:
        finding, samples, step = violation.finding, violation.samples, self._training.step
        shown = ordinal_list("sample", samples[:MAX_SHOWN], more=len(samples) > MAX_SHOWN)
        where = f"in {shown + ' of ' if shown else ''}the batch{f', on {describe_ranks(ranks)}' if ranks else ''}"
        trip = Trip(code=finding.code, signals=Signals(step, None, None), detail=where, ranks=ranks, finding=finding)
        explanation = f"{finding.code} {finding.message}, {where}; the loss and the gradients of the step are finite"
        return trip, replace(
            _diagnosis(explanation, step),
            field=finding.field,
            samples=samples,
            origins=origins_of(batch, samples),
            chain=(violation.link,),
        )

    def _made_elsewhere(self, ranks: tuple[int, ...]) -> tuple[Trip, Diagnosis]:
        step = self._training.step
        detail = f"a batch breaks the schema on {describe_ranks(ranks)}"
        trip = Trip(code=PHASE_CODES["input"], signals=Signals(step, None, None), detail=detail, ranks=ranks)
        return trip, _diagnosis(f"{detail}, whose report names its samples", step)


def _diagnosis(explanation: str, step: int) -> Diagnosis:
    cause = "input-out-of-schema"
    return Diagnosis(
        code=PHASE_CODES["input"], phase="input", cause=cause, explanation=explanation, remedy=ADVICE[cause], step=step
    )
