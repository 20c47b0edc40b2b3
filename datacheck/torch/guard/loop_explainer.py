"""From the calls of a user's own loop to a diagnosis: each is replayed until one replay does what the run did."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from datacheck.schema.model import Schema
from datacheck.text import plain
from datacheck.torch.diagnosis.causes.rules import INTENDED_INFINITY
from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.call_stack import Frame
from datacheck.torch.guard.gradient_replay import find_gradient_replays
from datacheck.torch.guard.log import GuardLog
from datacheck.torch.guard.loop_replay import LoopCall, LoopReplay, NotReproducedError, find_replays
from datacheck.torch.guard.loop_source import Taken
from datacheck.torch.guard.source_path import edited_file, names_tested
from datacheck.torch.guard.step_parts import Part
from datacheck.torch.guard.training_state import Training
from datacheck.torch.guard.unreplayed import explain_made_bad, explain_overwritten
from datacheck.torch.replay_state import RandomState, draws_same_values
from datacheck.torch.structure import tensors_in
from datacheck.torch.values import count_nonfinite

#: Causes that only say that a value was there: whether it was is to be verified.
_INITIAL = frozenset({"constant-not-finite", "input-not-finite"})
_WEIGHTS = "parameter-not-finite"


class Outcome(NamedTuple):
    """What a replay showed: the diagnosis, None if all is finite; whether it did what the run did; and the call."""

    diagnosis: Diagnosis | None
    is_exact: bool
    call: LoopCall | None = None


class LoopExplainer:
    """Replays calls of the loop. Buffers must hold their values from the start of the step."""

    def __init__(self, training: Training, log: GuardLog, schema: Schema | None) -> None:
        self._training = training
        self._log = log
        self._schema = schema
        self._note_lost: Callable[[str, str], None] | None = None

    def note_what_is_lost(self, calls: Sequence[LoopCall], model: nn.Module, note: Callable[[str, str], None]) -> None:
        """Tell ``note`` the place and kind of what half precision loses in finite calls."""
        self._note_lost = note
        try:
            self.explain(calls, model)
        finally:
            self._note_lost = None

    def explain(self, calls: Sequence[LoopCall], model: nn.Module, scale: float = 1.0) -> Outcome:
        """The diagnosis of the first call that is bad, and whether all of them were replayed as they ran."""
        substitutes = self._substitutes(model)
        # Where a loss is non-finite, whatever the others' gradients are is its effect.
        bad = [call for call in calls if call.is_bad]
        is_exact = bool(calls)
        for number, call in enumerate(calls):
            if bad and call not in bad:
                self._advance(call, substitutes)
                continue
            found, is_reproduced, _ = self._explain_call(call, substitutes, model, scale)
            if found is not None and (found.cause != _WEIGHTS or (is_exact and not _is_finite_in(model, found))):
                return Outcome(found, True, call)
            # Weights of a copy, or that the loop has changed since a call that could not be replayed, are an effect.
            is_exact = is_exact and is_reproduced and found is None
            if number + 1 < len(calls):
                self._advance(call, substitutes)
        return Outcome(None, is_exact)

    def explain_gradients(
        self, calls: Sequence[LoopCall], parts: Sequence[Part], at_update: Sequence[Frame], model: nn.Module
    ) -> Diagnosis | None:
        """The diagnosis of gradients that were finite until the loop changed them, before its update; None if none is
        verified.
        """
        from datacheck.torch.diagnosis.examine import examine

        substitutes, random = self._substitutes(model), calls[0].random
        for replay_of_step in find_gradient_replays(calls, parts, at_update, substitutes, self._training.parameters):
            replay_of_step.begin()
            try:
                with self._training.random.replay_from(random):
                    found = examine(replay_of_step.run, model=model, batch=replay_of_step.batch)
            except Exception:  # noqa: S112 - the user's code, run out of its context: the next attempt may do
                continue
            if found is not None and found.cause not in _INITIAL:
                known = "the gradients were finite until the loop changed them, before its update"
                *links, last = found.chain
                chain = (
                    *(replace(link, phase="backward") for link in links),
                    replace(last, phase="backward", op="gradient"),
                )
                explanation = f"{known}: {found.explanation}"
                return replace(
                    found, code="DC403", phase="backward", explanation=explanation, chain=chain, remedy_check=""
                )
        return None

    def explain_error(self, call: LoopCall, model: nn.Module) -> Diagnosis | None:
        """The diagnosis of what made the loop raise an error; None if no replay shows a non-finite value."""
        substitutes = self._substitutes(model)
        unverified: Diagnosis | None = None
        initial: Diagnosis | None = None
        for last in (names_tested, None):
            for replay_of_call, random in self._attempts(call, substitutes, last):
                try:
                    found = self._examine(replay_of_call, random, model, 1.0)
                except (Exception, SystemExit):  # noqa: S112 - the user's code: it may raise the same error, or another one
                    continue
                if found is not None and _rests_on(replay_of_call.taken, found):
                    unverified = unverified or _explain_taken(found, replay_of_call.taken)
                elif found is not None and rests_on_overwritten(replay_of_call.overwritten, found):
                    return explain_overwritten(found, replay_of_call.filename, replay_of_call.changes)
                elif found is not None and _takes_as_given(found):
                    initial = initial or _without_made_bad(found, call)
                elif found is not None:
                    return found
        return initial or unverified

    def is_bad(self, calls: Sequence[LoopCall], model: nn.Module, trained: frozenset[int]) -> bool:
        """Whether a loss or a gradient of a call is non-finite without a loss scale too; False if that is unknown."""
        from datacheck.torch.diagnosis.recorded_replay import reproduces

        substitutes = self._substitutes(model)
        for call in calls:
            if call.is_bad:
                return True
            for replay_of_call, random in self._attempts(call, substitutes):
                replay_of_call.begin()
                with self._training.random.replay_from(random):
                    found = reproduces(replay_of_call.run, call.loss is not None, 1.0, trained)
                if found:
                    return True
                if found is not None:
                    break
            self._advance(call, substitutes)
        return False

    def losses_of(self, calls: Sequence[LoopCall], model: nn.Module) -> Iterator[Callable[[], Tensor]]:
        """Functions that compute the loss of each call again. Raises :class:`NotReproducedError` where nothing does."""
        substitutes = self._substitutes(model)
        for call in calls:
            yield partial(self._loss_of, call, substitutes)

    def _loss_of(self, call: LoopCall, substitutes: Mapping[int, nn.Module]) -> Tensor:
        for replay_of_call, random in self._attempts(call, substitutes):
            replay_of_call.begin()
            try:
                with self._training.random.replay_from(random):
                    return replay_of_call.run()
            except Exception:  # noqa: S112 - the user's code, run out of its context: the next attempt may do
                continue
        raise NotReproducedError("no replay of the loop's code did what the run did")

    def _substitutes(self, model: nn.Module) -> Mapping[int, nn.Module]:
        whole = self._training.model
        if isinstance(whole, (nn.ModuleList, nn.ModuleDict)):
            return {id(child): child for child in whole.children()}
        return {id(whole): model, id(model): model}

    def _attempts(
        self,
        call: LoopCall,
        substitutes: Mapping[int, nn.Module],
        last: Callable[[Frame], Sequence[str]] | None = None,
    ) -> Iterator[tuple[LoopReplay, RandomState]]:
        # Numbers are drawn from the end of the call before on; but loading data may have drawn some too.
        starts = [call.random]
        if call.parts and not draws_same_values(call.random, call.parts[0].random):
            starts.append(call.parts[0].random)
        for replay_of_call in find_replays(call, substitutes, last):
            for random in starts:
                yield replay_of_call, random

    def _advance(self, call: LoopCall, substitutes: Mapping[int, nn.Module]) -> None:
        """Let the buffers be as they were after a call."""
        if not self._training.buffers.may_change:
            return
        with suppress(NotReproducedError):
            self._loss_of(call, substitutes)

    def _explain_call(
        self, call: LoopCall, substitutes: Mapping[int, nn.Module], model: nn.Module, scale: float
    ) -> Outcome:
        unverified: tuple[Diagnosis, list[Taken]] | None = None
        other: Diagnosis | None = None
        problem: Exception | None = None
        was_finite = False
        # What blames values that are there, until another replay shows that the step has changed them.
        initial: Diagnosis | None = None
        overwriting: LoopReplay | None = None
        for replay_of_call, random in self._attempts(call, substitutes):
            if initial is not None and not replay_of_call.changes:
                continue
            try:
                found = self._examine(replay_of_call, random, model, scale)
            except Exception as error:  # the user's code, run out of its context: the next attempt may do
                problem = problem or error
                was_finite = was_finite or getattr(error, "is_finite", False)
                if overwriting is None and any(count_nonfinite(one)[0] for one in replay_of_call.overwritten):
                    overwriting = replay_of_call
                continue
            if found is None and initial is None:
                return Outcome(None, True)
            if found is None:
                continue
            if _rests_on(replay_of_call.taken, found):
                unverified = unverified or (found, replay_of_call.taken)
            elif rests_on_overwritten(replay_of_call.overwritten, found):
                return Outcome(explain_overwritten(found, replay_of_call.filename, replay_of_call.changes), True)
            elif not (replay_of_call.recomputes_inputs or not call.parts):
                other = other or found
            elif not _takes_as_given(found):
                return Outcome(found, True)
            else:
                initial = initial or found
        found = initial or other
        if overwriting is not None and (found is None or rests_on_overwritten(overwriting.overwritten, found)):
            return Outcome(explain_overwritten(found, overwriting.filename, overwriting.changes), True)
        if found is not None:
            return Outcome(_without_made_bad(found, call), True)
        if unverified is not None:
            return Outcome(_explain_taken(*unverified), True)
        if was_finite:
            return Outcome(None, True)
        if self._note_lost is not None:
            # Nothing is wrong with the step: that it cannot be replayed is no finding.
            return Outcome(None, False)
        edited = edited_file(call.frames)
        if edited is not None:
            self._log.add_note(
                "the loop's loss", f"{plain(edited)} was edited after it was imported: it is not replayed"
            )
        elif problem is not None and not isinstance(problem, NotReproducedError):
            self._log.add_note("the loop's loss", f"its code raised when replayed: {type(problem).__name__}: {problem}")
        elif problem is not None:
            self._log.add_note("the loop's loss", f"no replay of its code did what the run did: {problem}")
        return Outcome(None, False)

    def _examine(
        self, replay_of_call: LoopReplay, random: RandomState, model: nn.Module, scale: float
    ) -> Diagnosis | None:
        from datacheck.torch.diagnosis.examine import examine

        replay_of_call.begin()
        with self._training.random.replay_from(random):
            return examine(
                replay_of_call.run,
                model=model,
                batch=replay_of_call.batch,
                replay_on=replay_of_call.run_on,
                scale=scale,
                schema=self._schema,
                note_lost=self._note_lost,
            )


def _is_finite_in(model: nn.Module, found: Diagnosis) -> bool:
    """Whether the parameter that a diagnosis names is finite in the model: then a copy of it was not."""
    blamed = found.chain[0].op if found.chain else ""
    named = (one for name, one in model.named_parameters() if blamed == f"parameter '{plain(name)}'")
    return any(not count_nonfinite(parameter)[0] for parameter in named)


def _rests_on(taken: Sequence[Taken], found: Diagnosis) -> bool:
    """Whether a diagnosis takes as given or intended what was computed by code that did not run again."""
    is_meant = INTENDED_INFINITY in found.explanation and any(map(_is_nonfinite, taken))
    return is_meant or (bool(taken) and found.cause in _INITIAL)


def rests_on_overwritten(overwritten: Sequence[Tensor], found: Diagnosis) -> bool:
    """Whether a diagnosis blames values that the loop had overwritten already when they were replayed."""
    if _takes_as_given(found):
        return any(count_nonfinite(tensor)[0] for tensor in overwritten)
    # Such as aten.log_.default.
    return bool(overwritten) and "_." in (found.op or "")


def _takes_as_given(found: Diagnosis) -> bool:
    """Whether a diagnosis rests on non-finite values that were there."""
    return found.cause in _INITIAL or INTENDED_INFINITY in found.explanation


def _without_made_bad(found: Diagnosis, call: LoopCall) -> Diagnosis:
    """A diagnosis that does not blame values that have been changed since their batch was fetched."""
    if not _takes_as_given(found):
        return found
    made_bad = [one for kept in call.fetched for one in kept.tensors if one.is_made_bad]
    return explain_made_bad(found, made_bad) if made_bad else found


def _is_nonfinite(one: Taken) -> bool:
    return any(count_nonfinite(tensor)[0] for tensor in tensors_in(one.value))


def _explain_taken(found: Diagnosis, taken: Sequence[Taken]) -> Diagnosis:
    """What is known where a value was computed by code that cannot run again."""
    name = (found.field or "").split(".")[0]
    origin = next((one for one in taken if one.name == name), None) or next(filter(_is_nonfinite, taken), taken[0])
    source = linecache.getline(origin.filename, origin.line).strip()
    begins = "what begins in " if source.endswith(":") else ""
    shown = f": {source}" if source else ""
    return replace(
        found,
        code="DC401",
        phase="loss",
        cause="unknown",
        explanation=(
            f"'{origin.name}' was non-finite when the loss was computed; {begins}line {origin.line} made it{shown}. That could"
            " not be run again, because what it read has changed since, so what made the value non-finite is not verified"
        ),
        filename=origin.filename,
        lineno=origin.line,
        source=source or None,
        op=None,
        remedy="guard.step(loss_fn, batch)  # with this line in loss_fn; or, for this batch: diagnose(loss_fn, model, batch)",
    )
