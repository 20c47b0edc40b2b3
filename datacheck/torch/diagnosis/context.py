"""The context of a diagnosis: the recording, the sources of tensors, and how lines and phases are determined."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    from datacheck.torch.diagnosis.root_cause import InitialValue, RootCause, Step
    from datacheck.torch.diagnosis.tensor_sources import TensorSources


#: The most links in a chain.
MAX_LINKS = 64


@dataclass(slots=True)
class Context:
    """The context of a diagnosis. ``seconds`` is how long the recorded replay took."""

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
    root_causes: list[RootCause] = field(default_factory=list)

    @property
    def trace(self) -> Trace:
        return self.recording.trace

    @property
    def in_gradient(self) -> bool:
        return self.recording.in_gradient

    def record_again(self, capture: frozenset[int]) -> Trace | None:
        """The trace of another replay that keeps the inputs of some operations; None where it runs differently."""
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
        """The forward operation of a derivative; the operation itself if it is no derivative, or ran in a custom backward."""
        if operation.node is None or operation.where.line is not None:
            return operation
        return self.trace.forward_of(operation.node) or operation

    def line_of(self, operation: Operation) -> tuple[SourceLine | None, str | None]:
        """The user's line and the module; for a custom backward the line in it, and the module that called its forward."""
        if operation.where.line is not None and operation.node is not None:
            origin = self.trace.forward_of(operation.node)
            module = operation.where.module or (None if origin is None else origin.where.module)
            return operation.where.line, module
        forward = self.forward_of(operation)
        return forward.where.line, forward.where.module

    def phase_of(self, operation: Operation) -> str:
        """``forward`` for operations in the model or on its inputs, ``loss`` for those on its output."""
        if operation.where.in_model or not self.has_model:
            return "forward"
        return "forward" if self.trace.reaches_model(operation) else "loss"

    def chain(self, step: Step | None) -> tuple[ChainLink, ...]:
        """The links from a step to the bad output; of a long path, its beginning and end."""
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
