"""What a step began from: random states and buffers, kept so that the step can be replayed or undone.

Keeping must cost next to nothing, since almost no step is ever recalled. So what no step has changed so far is not
copied again: a buffer whose version counter stood still, a random generator that was not drawn from.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["BufferRecall", "RandomRecall", "RandomState", "read_random_state", "same_draws", "write_random_state"]

#: How many steps a thing is watched for before it counts as constant.
TRIAL_STEPS = 8
#: A random generator that counts as unused is looked at again once in so many steps.
RETRY_STEPS = 256

#: What ``torch.get_rng_state`` asks.
_GENERATOR = torch.default_generator

RandomState = dict[str, Any]


def _accelerators(devices: frozenset[torch.device]) -> list[torch.device]:
    return sorted((device for device in devices if device.type not in ("cpu", "meta")), key=str)


def read_random_state(devices: frozenset[torch.device], *, with_host: bool = True) -> RandomState:
    """The states of torch's generators on the host and on ``devices`` and, ``with_host``, of Python's and NumPy's."""
    state: RandomState = {"torch": torch.get_rng_state()}
    for device in _accelerators(devices):
        state[str(device)] = torch.get_device_module(device).get_rng_state(device)
    if with_host:
        state["python"] = random.getstate()
        state["numpy"] = _numpy_state()
    return state


def _numpy_state() -> Any:
    # Training code draws from the global generator, whatever new code should do.
    return np.random.get_state(legacy=False)  # noqa: NPY002


def write_random_state(state: Mapping[str, Any]) -> None:
    """Set every generator that ``state`` has a state of."""
    for name, value in state.items():
        if name == "torch":
            torch.set_rng_state(value)
        elif name == "python":
            random.setstate(value)
        elif name == "numpy":
            np.random.set_state(value)  # noqa: NPY002 - see _numpy_state
        else:
            torch.get_device_module(name).set_rng_state(value, name)


def same_draws(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether torch's generators would draw the same from two states."""
    names = {name for name in (*first, *second) if name not in ("python", "numpy")}
    return all(name in first and name in second and torch.equal(first[name], second[name]) for name in names)


class RandomRecall:
    """The random states at the start of the step.

    Python's and NumPy's states cost more to read than a small step's whole check, and few training steps draw from
    them: they are read in the first steps, and from then on only if one of these drew from them.
    """

    __slots__ = ("_devices", "_host_is_used", "_host_was_read", "_steps", "between", "state")

    def __init__(self, devices: frozenset[torch.device]) -> None:
        self._devices = devices
        self._host_is_used = False
        self._host_was_read = False
        self._steps = 0
        self.state: RandomState = {}
        #: Those of torch when the step before was over: what a loop draws before it calls the model is drawn from them.
        self.between: RandomState = read_random_state(devices, with_host=False)

    def begin(self) -> None:
        """Keep the states that the step begins from."""
        trial = self._steps % RETRY_STEPS < TRIAL_STEPS
        self._host_was_read = trial or self._host_is_used
        if not self._host_was_read and not self._devices:
            self.state = {"torch": _GENERATOR.get_state()}
        else:
            self.state = read_random_state(self._devices, with_host=self._host_was_read)
        self._steps += 1

    def read(self) -> RandomState:
        """The present states: those that a later part of the step begins from."""
        return read_random_state(self._devices, with_host=self._host_was_read)

    def end(self) -> None:
        """Keep what lies between two steps; learn whether the one that is over drew from the host's generators."""
        self.between = (
            read_random_state(self._devices, with_host=False) if self._devices else {"torch": _GENERATOR.get_state()}
        )
        if self._host_was_read and not self._host_is_used:
            self._host_is_used = self.state["python"] != random.getstate() or not _same_numpy(
                self.state["numpy"], _numpy_state()
            )

    @contextmanager
    def replaying(self, state: RandomState) -> Iterator[None]:
        """Run what is inside from ``state``; what it draws is not drawn from the run's generators."""
        now = read_random_state(self._devices)
        write_random_state(state)
        try:
            yield
        finally:
            write_random_state(now)


def _same_numpy(first: Any, second: Any) -> bool:
    one, other = first["state"], second["state"]
    same_key = np.array_equal(one.get("key"), other.get("key"))
    return same_key and one.get("pos") == other.get("pos") and first.get("gauss") == second.get("gauss")


@dataclass(slots=True)
class _Slot:
    """One buffer's place in its module, and what it held at the start of the step."""

    name: str
    module: nn.Module
    key: str
    buffer: Tensor | None = None
    version: int = -1
    copy: Tensor | None = None
    changes: bool = False


class BufferRecall:
    """The buffers at the start of the step.

    A buffer that never changed in the first steps (a mask, a table of positions) is not kept any longer. If it is
    changed later, that one step cannot be undone in it, and it is kept from then on. A version counter tells of most
    changes, but not of the kernels that update a normalisation's running statistics: those are always kept.
    """

    __slots__ = ("_is_stale", "_model", "_slots", "_steps")

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._is_stale = False
        self._steps = 0
        self._slots: list[_Slot] = []

    def look_again(self) -> None:
        """The model has changed: find its buffers anew."""
        self._is_stale = True

    def begin(self) -> None:
        """Keep the buffers that may change in the step."""
        if self._is_stale or self._steps % RETRY_STEPS == 0:
            self._is_stale = False
            self._find()
        elif self._steps == TRIAL_STEPS:
            self._drop_constants()
        self._steps += 1
        for slot in self._slots:
            buffer = slot.module._buffers.get(slot.key)
            if buffer is None:
                continue
            is_same = buffer is slot.buffer and buffer._version == slot.version
            if is_same and not slot.changes:
                continue
            slot.changes = slot.changes or slot.buffer is not None
            slot.buffer, slot.version = buffer, buffer._version
            if slot.copy is not None and slot.copy.shape == buffer.shape and slot.copy.dtype is buffer.dtype:
                slot.copy.copy_(buffer.detach())
            else:
                slot.copy = buffer.detach().clone()

    def _drop_constants(self) -> None:
        for slot in self._slots:
            if not slot.changes and slot.copy is not None and slot.buffer is not None:
                slot.changes = not torch.equal(slot.copy.nan_to_num(), slot.buffer.nan_to_num())
                if not slot.changes:
                    slot.copy = None

    def _find(self) -> None:
        known = {(id(slot.module), slot.key): slot for slot in self._slots}
        self._slots = []
        for path, module in self._model.named_modules():
            for key, buffer in module._buffers.items():
                if buffer is not None and buffer.device.type != "meta":
                    name = f"{path}.{key}" if path else key
                    slot = known.get((id(module), key)) or _Slot(name, module, key)
                    slot.changes = slot.changes or isinstance(module, _NormBase)
                    self._slots.append(slot)

    def restore(self) -> list[str]:
        """Give every buffer the values that it had at the start of the step; the names of those that were not kept."""
        lost = []
        with torch.no_grad():
            for slot in self._slots:
                now = slot.module._buffers.get(slot.key)
                is_same = now is slot.buffer and slot.buffer is not None and slot.buffer._version == slot.version
                if slot.buffer is None or (is_same and not slot.changes):
                    continue
                if slot.copy is None:
                    lost.append(slot.name)
                    continue
                slot.buffer.copy_(slot.copy)
                slot.version = slot.buffer._version
                slot.module._buffers[slot.key] = slot.buffer
        return lost

    @contextmanager
    def replaying(self) -> Iterator[list[str]]:
        """Run what is inside from the buffers at the start of the step, and put the present ones back afterwards.

        Yields the names of the buffers that were not kept.
        """
        now = [(slot, slot.module._buffers.get(slot.key)) for slot in self._slots]
        values = [None if buffer is None else buffer.detach().clone() for _, buffer in now]
        lost = self.restore()
        try:
            yield lost
        finally:
            with torch.no_grad():
                for (slot, buffer), value in zip(now, values, strict=True):
                    slot.module._buffers[slot.key] = buffer
                    if buffer is not None and value is not None:
                        buffer.copy_(value)
