"""The line of an optimizer's own code that makes an update non-finite, found by making the update again."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from datacheck.torch.diagnosis.causes.rules import Classification, classify
from datacheck.torch.diagnosis.context import Context
from datacheck.torch.diagnosis.evidence import gather_evidence
from datacheck.torch.diagnosis.frames import ModuleNames, SourceLine, kind_of
from datacheck.torch.diagnosis.recorded_replay import Recording
from datacheck.torch.diagnosis.recorder import Recorder
from datacheck.torch.diagnosis.restore import Restorer
from datacheck.torch.diagnosis.root_cause import BadOutput, find_root_causes
from datacheck.torch.diagnosis.tensor_sources import TensorSources
from datacheck.torch.values import bad_positions, is_comparable, nonfinite_mask

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


#: Replaces weights that the update made non-finite.
WEIGHT = 0.5


def explain_own_update(optimizer: Optimizer) -> tuple[Classification, SourceLine, str] | None:
    """What the update does with the current gradients, from fresh state: the cause, the line and the operation.

    Only for optimizers that torch does not define, since a line of torch is no help; None where the update is then finite.
    """
    step = inspect.unwrap(type(optimizer).step)
    code = getattr(step, "__code__", None)
    if code is None or kind_of(code.co_filename) == "internal":
        return None
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    names = ModuleNames(None)
    recorder = Recorder(names, explain_own_update.__code__)
    with _finite_state(optimizer, parameters), torch.no_grad():
        try:
            with recorder:
                step(optimizer)
        except Exception:  # code that needs a closure, or the state that it had
            return None
        bad = [BadOutput.first_in(p) for p in parameters if len(bad_positions(p))]
        causes = [cause.step for cause in find_root_causes(recorder.trace, bad)]
        if not causes or None in causes:
            return None
        origin = causes[0]
        recording = Recording(recorder.trace)
        context = Context(
            recording, names, TensorSources([], None), Restorer([]), False, _no_replay, None, None, 1.0, 0.0
        )
        assert origin is not None
        found = gather_evidence(context, origin, joint=False, intended=False)
    line = found.forward.where.line
    return None if line is None else (classify(found.evidence), line, found.forward.name)


def _no_replay() -> Tensor:
    raise RuntimeError("an update has no loss")


@contextmanager
def _finite_state(optimizer: Optimizer, parameters: list[torch.nn.Parameter]) -> Iterator[None]:
    """Run the block with finite weights and empty state, and restore weights, gradients and state afterwards."""
    kept = [(p, p.detach().clone(), p.grad, p.grad.clone()) for p in parameters if p.grad is not None]
    state = optimizer.state
    optimizer.state = defaultdict(dict)
    try:
        with torch.no_grad():
            for p, *_ in kept:
                if is_comparable(p):
                    p.masked_fill_(nonfinite_mask(p), WEIGHT)
        yield
    finally:
        optimizer.state = state
        with torch.no_grad():
            for p, values, gradient, before in kept:
                p.copy_(values)
                gradient.copy_(before)
                p.grad = gradient
