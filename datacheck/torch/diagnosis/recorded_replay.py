"""One replay under the recorder, forward and backward, and its bad outputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from datacheck.errors import UsageError
from datacheck.torch import _compat
from datacheck.torch.diagnosis.recorder import MAX_KEPT_BYTES, Recorder
from datacheck.torch.diagnosis.restore import force_eager, isolated_gradients, leaves_of, nodes_of, run_backward
from datacheck.torch.diagnosis.root_cause import BadOutput
from datacheck.torch.values import bad_positions, dense_parts, is_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datacheck.torch.diagnosis.frames import ModuleNames
    from datacheck.torch.diagnosis.record import Trace
    from datacheck.torch.diagnosis.restore import Restorer


#: Bad gradients that are traced: the root cause of the rest is nearly always the same.
MAX_BAD_OUTPUTS = 8

#: An assertion refers to a comparison at most this many operations before it.
RECENT = 8

RAN_BACKWARD = (
    "the loss function called backward() itself; it must only return the loss, and the caller runs the backward pass"
)

#: Two errors that begin with the same letters, up to this many, count as the same.
OPENING = 40

#: What error messages say where a bad value caused the error.
_HINTS = re.compile(
    r"\bnan\b|\binf\b|infinit|finite|converge|constraint|probability|singular|ill-conditioned|positive.definite",
    re.IGNORECASE,
)

#: What error messages say where an index is out of range.
_INDEX = re.compile(r"\bindex\b|out of (range|bounds)", re.IGNORECASE)


@dataclass(slots=True)
class Recording:
    """The trace of a replay and its bad outputs: the loss or, where it is finite, gradients of ``leaves``."""

    trace: Trace
    bad_outputs: list[BadOutput] = field(default_factory=list)
    in_gradient: bool = False
    error: str | None = None
    leaves: list[torch.Tensor] = field(default_factory=list)


def check_loss(loss: object) -> torch.Tensor:
    """The loss; raises :class:`UsageError` unless it is a tensor with one value."""
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shown = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise UsageError(
            f"the loss function returned {shown}; it must return a tensor with one value, such as loss.mean()"
        )
    return loss


def record(
    replay: Callable[[], torch.Tensor],
    names: ModuleNames,
    scale: float,
    *,
    max_bytes: int = MAX_KEPT_BYTES,
    capture: frozenset[int] = frozenset(),
    given: frozenset[int] = frozenset(),
    restorer: Restorer | None = None,
) -> Recording:
    """Run the replay under the recorder, and backward from its loss if that is finite.

    ``max_bytes``, ``capture`` and ``restorer`` are passed to the recorder. ``given`` are the storages of the batch: its
    gradients do not matter where anything else is trained.
    """
    recorder = Recorder(names, record.__code__, max_bytes, capture, restorer)
    recording = Recording(recorder.trace)
    with force_eager(), torch.enable_grad():
        try:
            with recorder:
                loss = check_loss(replay())
        except (UsageError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            recording.bad_outputs = _bad_input_of(recorder, error)
            if not recording.bad_outputs:
                raise
            recording.error = _describe_error(error)
            return recording
        if not is_finite(loss):
            recording.bad_outputs = [BadOutput.first_in(loss)]
            return recording
        if not loss.requires_grad and restorer is not None and restorer.has_new_gradients:
            raise UsageError(RAN_BACKWARD)
        if loss.requires_grad:
            recording.in_gradient = True
            _record_backward(recorder, recording, loss, scale, given)
    return recording


def _record_backward(
    recorder: Recorder, recording: Recording, loss: torch.Tensor, scale: float, given: frozenset[int]
) -> None:
    leaves = leaves_of(loss)
    computed = given | recorder.written
    trained = [leaf for leaf in leaves if isinstance(leaf, nn.Parameter) or _compat.storage_id(leaf) not in computed]
    recording.leaves = trained or leaves
    handles = [node.register_hook(_CustomWatch(recorder, node)) for node in _custom_nodes(recorder, loss)]
    recorder.in_backward = True
    try:
        with isolated_gradients(leaves):
            try:
                with recorder:
                    run_backward(loss, scale)
            except RuntimeError as error:
                if "backward through the graph a second time" in str(error):
                    raise UsageError(RAN_BACKWARD) from error
                raise
            for leaf in recording.leaves:
                recording.bad_outputs.extend(_bad_outputs_in(leaf.grad))
    finally:
        for handle in handles:
            handle.remove()
    recording.bad_outputs.sort(key=lambda bad_output: _last_write(recording.trace, bad_output))
    del recording.bad_outputs[MAX_BAD_OUTPUTS:]


def _last_write(trace: Trace, bad_output: BadOutput) -> int:
    geometry = bad_output.geometry
    found = trace.writer_of(geometry.key, geometry.address(bad_output.position))
    return -1 if found is None else found[0].index


def _bad_outputs_in(gradient: torch.Tensor | None) -> Iterator[BadOutput]:
    parts = () if gradient is None else dense_parts(gradient)
    return (BadOutput.first_in(part) for part in parts if not is_finite(part))


def _custom_nodes(recorder: Recorder, loss: torch.Tensor) -> Iterator[Any]:
    """The nodes of custom Functions; gives their sequence numbers to the recorder."""
    for node in nodes_of(loss):
        function = _compat.forward_class(node)
        if function is not None:
            recorder.name_custom(_compat.sequence_number(node), function)
            yield node


class _CustomWatch:
    """A hook on the node of a custom Function: records bad gradients that no operation wrote, but NumPy code for instance."""

    def __init__(self, recorder: Recorder, node: Any) -> None:
        self._recorder = recorder
        self._sequence = _compat.sequence_number(node)
        self._name = node.name()

    def __call__(self, produced: Any, received: Any) -> None:
        if all(gradient is None or is_finite(gradient) for gradient in received):
            self._recorder.note_custom(self._name, self._sequence, [part for part in produced if part is not None])


def _bad_input_of(recorder: Recorder, error: BaseException) -> list[BadOutput]:
    """The bad value that made an operation raise, if any."""
    hinted = _HINTS.search(str(error)) is not None
    suspects = [one for one in recorder.last_inputs if not is_finite(one) and (hinted or bool(torch.isnan(one).any()))]
    since, compared = recorder.last_compared
    if isinstance(error, AssertionError | ArithmeticError) and len(recorder.trace.operations) - since <= RECENT:
        suspects += compared
    if recorder.last_rounded is not None and isinstance(error, IndexError | RuntimeError) and _INDEX.search(str(error)):
        suspects.append(recorder.last_rounded)
    found = [BadOutput.first_in(tensor) for tensor in suspects if not is_finite(tensor)]
    if hinted and not found:
        written = (one for operation in reversed(recorder.trace.operations) for one in operation.written)
        saved = ((one.geometry, one.saved.tensor) for one in written if one.saved is not None)
        found = [BadOutput(geometry, int(bad_positions(tensor)[0])) for geometry, tensor in islice(saved, 1)]
    return found[:1]


def reproduces(
    replay: Callable[[], torch.Tensor],
    in_gradient: bool,
    scale: float,
    trained: frozenset[int] = frozenset(),
    raised: str | None = None,
) -> bool | None:
    """Whether a replay has a bad output of the same kind, without recording; None where it cannot be run.

    ``trained`` are the ids of the leaves whose gradients count; all do where none are given. ``raised`` is the error that
    the bad value made the program raise: the same error again counts as the same.
    """
    try:
        with force_eager(), torch.enable_grad():
            loss = check_loss(replay())
            if not in_gradient:
                return not is_finite(loss)
            if not is_finite(loss) or not loss.requires_grad:
                return None
            leaves = leaves_of(loss)
            with isolated_gradients(leaves):
                run_backward(loss, scale)
                counted = [leaf for leaf in leaves if not trained or id(leaf) in trained]
                return any(True for leaf in counted for _ in _bad_outputs_in(leaf.grad))
    except Exception as error:  # a part of a batch may break any code
        return True if raised is not None and _opening(_describe_error(error)) == _opening(raised) else None


def _describe_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _opening(message: str) -> str:
    """How an error begins, without the numbers in it: shapes and values differ with the batch."""
    return re.sub(r"[\d.]+", "0", message)[:OPENING]
