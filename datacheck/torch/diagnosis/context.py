"""What an examination knows: the recording, and who owns which memory; and how it tells places and phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datacheck.torch.diagnosis.diagnosis import ChainLink
from datacheck.torch.diagnosis.origin import Origin, origin_of_initial
from datacheck.torch.diagnosis.recorded_replay import record

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from datacheck.schema.model import Schema
    from datacheck.torch.diagnosis.frames import ModuleNames, SourceLine
    from datacheck.torch.diagnosis.record import Operation, Trace
    from datacheck.torch.diagnosis.recorded_replay import Recording
    from datacheck.torch.diagnosis.restore import Restorer
    from datacheck.torch.diagnosis.root_cause import InitialValue, Step
    from datacheck.torch.diagnosis.tensor_sources import TensorSources

__all__ = ["Context"]

#: Links that a chain has at most.
MAX_LINKS = 64


@dataclass(slots=True)
class Context:
    """What an examination knows. ``seconds`` is what the recorded replay took."""

    recording: Recording
    names: ModuleNames
    tensor_sources: TensorSources
    restorer: Restorer
    has_model: bool
    replay: Callable[[], torch.Tensor]
    batch: Any
    replay_on: Callable[[Any], torch.Tensor] | None
    scale: float
    seconds: float
    schema: Schema | None = None

    @property
    def trace(self) -> Trace:
        return self.recording.trace

    @property
    def in_gradient(self) -> bool:
        return self.recording.in_gradient

    def record_again(self, capture: frozenset[int]) -> Trace | None:
        """The tape of another replay that keeps what some operations read; None where it does not run the same."""
        self.restorer.restore()
        trace = record(self.replay, self.names, self.scale, capture=capture).trace
        same = all(
            index < len(trace.operations) and trace.operations[index].name == self.trace.operations[index].name
            for index in capture
        )
        return trace if same else None

    def origin_of(self, initial: InitialValue) -> Origin:
        """The origin of a value that was bad before the step."""
        source = self.tensor_sources.find(initial.address)
        return origin_of_initial(source.kind, initial.tensor if source.tensor is None else source.tensor)

    def forward_of(self, operation: Operation) -> Operation:
        """The forward operation of a derivative; the operation itself where it is none, or the user's own code."""
        if operation.node is None or operation.where.line is not None:
            return operation
        return self.trace.forward_of(operation.node) or operation

    def line_of(self, operation: Operation) -> tuple[SourceLine | None, str | None]:
        """The user's line and the module: of a custom backward the line in it, and the module that called it forward."""
        if operation.where.line is not None and operation.node is not None:
            origin = self.trace.forward_of(operation.node)
            module = operation.where.module or (None if origin is None else origin.where.module)
            return operation.where.line, module
        forward = self.forward_of(operation)
        return forward.where.line, forward.where.module

    def phase_of(self, operation: Operation) -> str:
        """Forward is what the model does and what it is given; the loss is what is made of its output."""
        if operation.where.in_model or not self.has_model:
            return "forward"
        return "forward" if self.trace.reaches_model(operation) else "loss"

    def chain(self, step: Step | None) -> tuple[ChainLink, ...]:
        """The links from a step to the harm: of a long way its beginning and its end."""
        path = [] if step is None else step.path()
        if len(path) > MAX_LINKS:
            path = [*path[: MAX_LINKS // 2], *path[-MAX_LINKS // 2 :]]
        end = ("gradient", "backward") if self.in_gradient else ("loss", "loss")
        return (*map(self._link, path), ChainLink(*end))

    def _link(self, step: Step) -> ChainLink:
        operation = step.operation
        line, module = self.line_of(operation)
        is_backward = operation.in_backward and operation.node is not None
        return ChainLink(
            operation.name,
            "backward" if is_backward else self.phase_of(self.forward_of(operation)),
            module,
            None if line is None else line.filename,
            None if line is None else line.lineno,
            step.written.num_bad,
            step.written.geometry.num_values,
        )
