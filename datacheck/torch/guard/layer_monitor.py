"""The output of every module and the gradient with respect to it: sums of squares a step, never the tensors themselves.

The hooks are on modules for the outputs and on the output tensors for the gradients. A full backward hook on the module
would fail before an in-place operation and is silent for outputs that are not tensors or tuples of tensors.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from datacheck.findings import Severity
from datacheck.text import join_limited
from datacheck.torch._compat import current_graph_task_id
from datacheck.torch.guard.hooks import Hook
from datacheck.torch.guard.norms import squares, total_norm
from datacheck.torch.guard.step_state import Phase, StepState
from datacheck.torch.structure import tensors_in
from datacheck.torch.values import can_be_nonfinite, plain_tensor

#: Steps of a run that are replayed to find what half precision lost.
MAX_SEARCHES = 3


@dataclass(frozen=True, slots=True)
class LayerReading:
    """One module in one step: the root mean squares of its outputs and of the gradient with respect to them.

    ``order`` counts modules in the order in which they finished. A value is non-finite if an output or a gradient was;
    None if there was none.
    """

    name: str
    order: int
    output: float | None
    gradient: float | None


class LayerMonitor:
    """Hooks on every module of a model, and what they saw in the current step.

    Nothing waits for an accelerator: sums stay in one tensor per device until they are asked for. Inside a compiled model
    outputs are watched by the same in-place addition, which the compiler keeps, at a few percent of a step; gradients are
    not watched there.
    """

    def __init__(self, model: nn.Module, state: StepState) -> None:
        self._model = model
        self._state = state
        self.names: list[str] = []
        self._modules: list[nn.Module] = []
        self._handles: list[RemovableHandle] = []
        self._device_sums: dict[torch.device, Tensor] = {}
        self._compiled_sums: Tensor | None = None
        #: Whether a module gave values of half precision.
        self.saw_half = False
        self._num_searches = 0
        self._known_zeros: set[int] = set()
        #: Modules that cannot be watched.
        self.blind_spots: set[str] = set()
        self._find()

    def _clear(self) -> None:
        size = len(self.names)
        self._outputs = [0.0] * size
        self._output_sizes = [0] * size
        self._gradients = [0.0] * size
        self._gradient_sizes = [0] * size
        self._order: dict[int, None] = {}
        self._last: Callable[[], Tensor | None] = _nothing
        self._last_index = 0

    def begin(self) -> None:
        """Forget the step before."""
        self._clear()
        for sums in self._device_sums.values():
            sums.zero_()
        if self._compiled_sums is not None:
            self._compiled_sums.zero_()

    def attach(self) -> None:
        if self._handles:
            return
        home = next((p.device for p in self._modules[0].parameters()), torch.device("cpu"))
        if home.type != "meta":
            self._compiled_sums = torch.zeros(len(self.names), device=home)
        for index, module in enumerate(self._modules):
            try:
                self._handles.append(module.register_forward_hook(Hook(self._make_hook(index))))
            except RuntimeError:
                # TorchScript takes no hooks.
                self.blind_spots.add(self.names[index])

    def _find(self) -> None:
        named = list(self._model.named_modules())
        self.names = [name or type(module).__name__ for name, module in named]
        self._modules = [module for _, module in named]
        self._device_sums.clear()
        self._clear()

    def refresh(self) -> None:
        """Watch the model's current modules, if they have changed."""
        if [id(module) for module in self._model.modules()] != [id(module) for module in self._modules]:
            self.remove()
            self._find()
            self.attach()

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _make_hook(self, index: int) -> Callable[[nn.Module, Any, Any], None]:
        compiling, state = torch.compiler.is_compiling, self._state
        compiled_sums = self._compiled_sums
        gradient_hook = Hook(self._make_gradient_hook(index))

        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if compiling():
                if compiled_sums is not None and isinstance(output, Tensor) and output.is_floating_point():
                    value = output.detach()
                    compiled_sums[index].add_(torch.linalg.vector_norm(value, dtype=_wide(value)).to(torch.float32))
                return
            if state.phase is Phase.DIAGNOSE or not (state.has_gradients or torch.is_grad_enabled()):
                return
            # In a backward pass, activation checkpointing recomputes. The outputs were seen before, but the gradients may
            # pass here and nowhere else.
            is_again = current_graph_task_id() != -1
            take = self._take_again if is_again else self._take
            if not is_again:
                self._order[index] = None
            try:
                if type(output) is Tensor:
                    take(index, output, gradient_hook)
                else:
                    for tensor in tensors_in(output):
                        take(index, tensor, gradient_hook)
            except (NotImplementedError, RuntimeError, TypeError):
                # A tensor without values of its own (vmap), or a subclass without a norm.
                self.blind_spots.add(self.names[index])

        return hook

    def _take(self, index: int, tensor: Tensor, gradient_hook: Hook) -> None:
        dtype = tensor.dtype
        if not (dtype.is_floating_point or dtype.is_complex):
            return
        if self._last() is tensor and len(self._order) > 1:
            # A container that returns its last child's output has the child's numbers.
            child = self._last_index
            self._outputs[index] += self._outputs[child]
            self._output_sizes[index] += self._output_sizes[child]
            return
        self._last, self._last_index = weakref.ref(tensor), index
        if dtype.itemsize == 2:
            self.saw_half = True
        self._add(self._outputs, index, tensor, 0)
        self._output_sizes[index] += tensor.numel()
        if tensor.requires_grad:
            tensor.register_hook(gradient_hook)  # type: ignore[no-untyped-call]

    def _take_again(
        self,
        index: int,  # noqa: ARG002 - as _take
        tensor: Tensor,
        gradient_hook: Hook,
    ) -> None:
        if tensor.requires_grad and self._last() is not tensor:
            self._last = weakref.ref(tensor)
            tensor.register_hook(gradient_hook)  # type: ignore[no-untyped-call]

    def _make_gradient_hook(self, index: int) -> Callable[[Tensor | None], None]:
        def hook(gradient: Tensor | None) -> None:
            if gradient is None or torch.compiler.is_compiling():
                return
            try:
                self._add(self._gradients, index, gradient, len(self.names))
                self._gradient_sizes[index] += gradient.numel()
            except (NotImplementedError, RuntimeError, TypeError):
                self.blind_spots.add(self.names[index])

        return hook

    def _add(self, sums: list[float], index: int, tensor: Tensor, offset: int) -> None:
        if tensor.is_cpu:
            sums[index] += squares(tensor)
        elif can_be_nonfinite(tensor):
            device_sums = self._device_sums.get(tensor.device)
            if device_sums is None:
                device_sums = torch.zeros(2 * len(self.names), device=tensor.device)
                self._device_sums[tensor.device] = device_sums
            device_sums[index + offset].add_(total_norm([plain_tensor(tensor)]).square_())

    def limitations(self) -> Iterator[tuple[str, Severity | None]]:
        """What could not be watched in this step, and how severe that is. This waits for an accelerator."""
        is_compiled = self._compiled_sums is not None and bool(self._compiled_sums.any())
        if is_compiled:
            yield (
                "inside torch.compile the outputs of modules are watched, but not the gradients with respect to them",
                Severity.WARNING,
            )
        if self.blind_spots:
            shown = join_limited(sorted(self.blind_spots), 4)
            yield f"hooks do not see the values of {shown}, under vmap or in TorchScript", None
        elif not self._order and not is_compiled:
            hint = "create the guard before the first call of a compiled model, and call model(x), not model.forward(x)"
            yield f"no module was called through its hooks; {hint}", None

    def may_have_lost(self, *, is_first: bool) -> bool:
        """Whether the step in half precision is worth a search for what it lost: the first, and one with new zeros.

        On an accelerator, whether an output is zero is not waited for.
        """
        if not self.saw_half or self._num_searches >= MAX_SEARCHES:
            return False
        zeros = {index for index, size in enumerate(self._output_sizes) if size and self._outputs[index] == 0.0}
        is_new = not self._device_sums and not zeros <= self._known_zeros
        self._known_zeros |= zeros
        self._num_searches += is_first or is_new
        return is_first or is_new

    def nonfinite_layers(self) -> tuple[str, ...]:
        """The modules with a non-finite output, in order. This waits for an accelerator."""
        return tuple(
            layer.name for layer in self.read() if layer.output is not None and not math.isfinite(layer.output)
        )

    def read(self) -> list[LayerReading]:
        """The readings of this step, in the order in which modules finished. This waits for an accelerator."""
        size = len(self.names)
        outputs, gradients = list(self._outputs), list(self._gradients)
        for sums in self._device_sums.values():
            values = sums.tolist()
            outputs = [a + b for a, b in zip(outputs, values[:size], strict=True)]
            gradients = [a + b for a, b in zip(gradients, values[size:], strict=True)]
        if self._compiled_sums is not None:
            compiled = self._compiled_sums.tolist()
            for index, norm in enumerate(compiled):
                if norm != 0.0 and index not in self._order:
                    self._order[index] = None
                    outputs[index], self._output_sizes[index] = norm * norm, 1
        readings = []
        for order, index in enumerate(self._order):
            output = _root_mean(outputs[index], self._output_sizes[index])
            readings.append(
                LayerReading(
                    self.names[index], order, output, _root_mean(gradients[index], self._gradient_sizes[index])
                )
            )
        return readings


def _nothing() -> None:
    return None


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype is torch.float64 else torch.float32


def _root_mean(total: float, size: int) -> float | None:
    if size == 0:
        return None
    return math.sqrt(total / size) if math.isfinite(total) else total
