"""Random states and buffers at the start of a step, kept so that the step can be replayed or undone.

Keeping them must cost next to nothing, since almost no step is ever replayed. What has not changed is not copied again: a
buffer whose version counter stood still, a random generator that drew nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer

from datacheck.torch._compat import batch_norm_classes, buffers_of, version_of

#: Steps for which a buffer or generator is watched before it counts as constant.
TRIAL_STEPS = 8
#: Steps between two checks of a random generator that counts as unused.
RETRY_STEPS = 256

#: The generator behind ``torch.get_rng_state``.
_GENERATOR = torch.default_generator

RandomState = dict[str, Any]


def initialized_accelerators() -> frozenset[torch.device]:
    """Every accelerator that this process has already used; none is initialized by asking."""
    if not torch.accelerator.is_available():
        return frozenset()
    kind = torch.accelerator.current_accelerator()
    module = None if kind is None else torch.get_device_module(kind)
    if kind is None or not getattr(module, "is_initialized", lambda: True)():
        return frozenset()
    if not hasattr(module, "get_rng_state"):
        return frozenset()
    return frozenset(torch.device(kind.type, index) for index in range(torch.accelerator.device_count()))


def _accelerators(devices: frozenset[torch.device]) -> list[torch.device]:
    return sorted((device for device in devices if device.type not in ("cpu", "meta")), key=str)


def read_random_state(devices: frozenset[torch.device], *, with_host: bool = True) -> RandomState:
    """The states of torch's generators on the CPU and on ``devices`` and, ``with_host``, of Python's and NumPy's."""
    state: RandomState = {"torch": _GENERATOR.get_state()}
    if devices:
        for device in _accelerators(devices):
            module = torch.get_device_module(device)
            state[str(device)] = module.get_rng_state(*_device_argument(device))
    if with_host:
        state["python"] = random.getstate()
        state["numpy"] = _numpy_state()
    return state


def _device_argument(device: torch.device) -> tuple[torch.device, ...]:
    # There is one MPS device, and its functions take no argument.
    return () if device.type == "mps" else (device,)


def _numpy_state() -> Any:
    # Training code draws from the global generator, whatever new code should do.
    return np.random.get_state(legacy=False)  # noqa: NPY002


def write_random_state(state: Mapping[str, Any]) -> None:
    """Set every generator that ``state`` covers."""
    for name, value in state.items():
        if name == "torch":
            torch.set_rng_state(value)
        elif name == "python":
            random.setstate(value)
        elif name == "numpy":
            np.random.set_state(value)  # noqa: NPY002 - see _numpy_state
        else:
            device = torch.device(name)
            torch.get_device_module(device).set_rng_state(value, *_device_argument(device))


def draws_same_values(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether torch's generators would draw the same values from both states."""
    names = {name for name in (*first, *second) if name not in ("python", "numpy")}
    return all(name in first and name in second and torch.equal(first[name], second[name]) for name in names)


class StepRandomState:
    """The random states at the start of the step.

    Reading Python's and NumPy's states costs more than checking a small step, and few training steps draw from them.
    They are read in the first steps, and afterwards only if one of those drew from them.
    """

    __slots__ = ("_devices", "_host_is_used", "_host_was_read", "_steps", "after_last_step", "state")

    def __init__(self, devices: frozenset[torch.device]) -> None:
        self._devices = devices
        self._host_is_used = False
        self._host_was_read = False
        self._steps = 0
        self.state: RandomState = {}
        #: Torch's states when the previous step ended: a loop that draws before it calls the model draws from these. Empty
        #: if they were not kept.
        self.after_last_step: RandomState = read_random_state(devices, with_host=False)

    def begin(self) -> None:
        """Keep the states at the start of the step."""
        trial = self._steps % RETRY_STEPS < TRIAL_STEPS
        self._host_was_read = trial or self._host_is_used
        self.state = read_random_state(self._devices, with_host=self._host_was_read)
        self._steps += 1

    def read(self) -> RandomState:
        """The current states: those at the start of a later part of the step."""
        return read_random_state(self._devices, with_host=self._host_was_read)

    def end(self, *, keep: bool = True) -> None:
        """Learn whether the step drew from Python's or NumPy's generator; ``keep`` the states after it, too."""
        self.after_last_step = read_random_state(self._devices, with_host=False) if keep else {}
        if self._host_was_read and not self._host_is_used:
            self._host_is_used = self.state["python"] != random.getstate() or not _same_numpy(
                self.state["numpy"], _numpy_state()
            )

    @contextmanager
    def replay_from(self, state: RandomState) -> Iterator[None]:
        """Run the block from ``state``, without drawing from the run's generators."""
        current = read_random_state(self._devices)
        write_random_state(state)
        try:
            yield
        finally:
            write_random_state(current)


def _same_numpy(first: Any, second: Any) -> bool:
    one, other = first["state"], second["state"]
    same_key = np.array_equal(one.get("key"), other.get("key"))
    return same_key and one.get("pos") == other.get("pos") and first.get("gauss") == second.get("gauss")


class SavedBuffers:
    """The buffers of some modules as they are now: which tensors they are, and their values."""

    __slots__ = ("_buffers", "_values")

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._buffers = [(module, dict(buffers_of(module))) for module in modules]
        self._values = [
            (buffer, buffer.detach().clone())
            for _, buffers in self._buffers
            for buffer in buffers.values()
            if buffer is not None and buffer.layout is torch.strided and not isinstance(buffer, UninitializedBuffer)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Put back the same tensors with the same values."""
        for module, buffers in self._buffers:
            # TorchScript gives out its buffers, but does not let them be replaced.
            current = buffers_of(module)
            if not isinstance(module, torch.jit.ScriptModule) and not _are_same_objects(current, buffers):
                current.clear()
                current.update(buffers)
        for buffer, value in self._values:
            if buffer.shape == value.shape:
                buffer.copy_(value)


def _are_same_objects(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return first.keys() == second.keys() and all(first[name] is second[name] for name in first)


@dataclass(slots=True)
class _StepBuffer:
    """One buffer, and its value at the start of the step."""

    name: str
    owner: dict[str, Tensor | None]
    key: str
    buffer: Tensor | None = None
    version: int = -1
    copy: Tensor | None = None
    changes: bool = False

    def is_unchanged(self) -> bool:
        """Whether it is the same tensor, and no operation that counts versions has written it since."""
        current = self.owner.get(self.key)
        return current is not None and current is self.buffer and version_of(current) == self.version


class StepBuffers:
    """The buffers at the start of the step and, in the first steps, the plain attributes of modules.

    A module that initializes itself in its first step marks that with an attribute.

    A buffer that did not change in the first steps (a mask, a table of positions) is not kept any longer. If it changes
    later, that one step cannot be undone in it, and it is kept from then on. A version counter reveals most changes, but
    not those by the kernels that update a normalization's running statistics: these are always kept.
    """

    __slots__ = ("_attributes", "_before", "_buffers", "_is_stale", "_model", "_steps", "keeps_two")

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._is_stale = False
        self._steps = 0
        self._buffers: list[_StepBuffer] = []
        self._attributes: list[tuple[nn.Module, dict[str, Any]]] = []
        #: Whether the values at the start of the step before are kept, too; and these, of the buffers that have changed.
        self.keeps_two = False
        self._before: list[tuple[_StepBuffer, Tensor | None]] = []

    def go_back(self) -> None:
        """Use the start of the step before as the start of this one."""
        for kept, copy in self._before:
            kept.copy = copy
        self._before = []

    def invalidate(self) -> None:
        """The model has changed: find its buffers again before the next step."""
        self._is_stale = True

    def begin(self) -> None:
        """Keep the buffers that may change in the step."""
        if self._is_stale or self._steps % RETRY_STEPS == 0:
            self._is_stale = False
            self._find()
        elif self._steps == TRIAL_STEPS:
            self._drop_constants()
        self._attributes = _plain_attributes(self._model) if self._steps < TRIAL_STEPS else []
        self._steps += 1
        self._before = [(kept, kept.copy) for kept in self._buffers] if self.keeps_two else []
        for kept in self._buffers:
            buffer = kept.owner.get(kept.key)
            if buffer is None:
                continue
            version = version_of(buffer)
            is_same = buffer is kept.buffer and version == kept.version
            if is_same and not kept.changes:
                continue
            kept.changes = kept.changes or kept.buffer is not None
            kept.buffer, kept.version = buffer, version
            fits = kept.copy is not None and kept.copy.shape == buffer.shape and kept.copy.dtype is buffer.dtype
            if fits and kept.copy is not None and not self.keeps_two:
                kept.copy.copy_(buffer.detach())
            else:
                kept.copy = buffer.detach().clone()

    def _drop_constants(self) -> None:
        for kept in self._buffers:
            if not kept.changes and kept.copy is not None and kept.buffer is not None:
                kept.changes = not torch.equal(kept.copy.nan_to_num(), kept.buffer.nan_to_num())
                if not kept.changes:
                    kept.copy = None

    def _find(self) -> None:
        known = {(id(kept.owner), kept.key): kept for kept in self._buffers}
        running = batch_norm_classes()
        self._buffers = []
        for path, module in self._model.named_modules():
            owner = buffers_of(module)
            for key, buffer in owner.items():
                if buffer is not None and buffer.device.type != "meta":
                    name = f"{path}.{key}" if path else key
                    kept = known.get((id(owner), key)) or _StepBuffer(name, owner, key)
                    kept.changes = kept.changes or isinstance(module, running)
                    self._buffers.append(kept)

    @property
    def may_change(self) -> bool:
        """Whether a step changes any of them."""
        return any(kept.changes for kept in self._buffers)

    def restore(self) -> list[str]:
        """Give every buffer its value at the start of the step; returns the names of those that were not kept."""
        lost = []
        with torch.no_grad():
            for kept in self._buffers:
                if kept.buffer is None or (kept.is_unchanged() and not kept.changes):
                    continue
                if kept.copy is None:
                    lost.append(kept.name)
                    continue
                kept.buffer.copy_(kept.copy)
                kept.version = version_of(kept.buffer)
                kept.owner[kept.key] = kept.buffer
        return lost

    @contextmanager
    def replay(self) -> Iterator[list[str]]:
        """Run the block with the buffers at the start of the step, and put the current ones back afterwards.

        Yields the names of the buffers that were not kept.
        """
        current = SavedBuffers(self._model.modules())
        attributes = _plain_attributes(self._model) if self._attributes else []
        lost = self.restore()
        for module, values in self._attributes:
            module.__dict__.update(values)
        try:
            yield lost
        finally:
            for module, values in attributes:
                module.__dict__.update(values)
            current.restore()


def _plain_attributes(model: nn.Module) -> list[tuple[nn.Module, dict[str, Any]]]:
    """The switches, counters and numbers that modules have as attributes, other than whether they are in training mode."""
    found = []
    for module in model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            values = {name: value for name, value in vars(module).items() if isinstance(value, (bool, int, float))}
            values.pop("training", None)
            found.append((module, values))
    return found
