"""Replaying what the user's own loop did from the beginning of a step to a call of backward, and checking that it did."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datacheck.errors import UsageError
from datacheck.torch._compat import current_graph_task_id, storage_id, unrecorded, version_of
from datacheck.torch.guard.batch_values import KeptBatch, restorer_of
from datacheck.torch.guard.call_stack import Frame, Place, frames_above
from datacheck.torch.guard.loop_items import find_items
from datacheck.torch.guard.loop_source import BEGIN_END, FUNCTION, KEPT, LoopCode, Taken, find_loop_code
from datacheck.torch.guard.repeatable import stores_outside
from datacheck.torch.guard.source_path import is_in_loop
from datacheck.torch.guard.step_parts import Part, are_equal, restore_captured
from datacheck.torch.guard.torch_calls import during_replay
from datacheck.torch.replay_state import RandomState, write_random_state
from datacheck.torch.structure import map_structure, tensors_in
from datacheck.torch.values import count_nonfinite

#: Functions that are tried from the innermost outwards; a trainer has several helpers around backward.
MAX_FUNCTIONS = 8
#: How far a replayed loss may be from the original: kernels may add in another order.
TOLERANCE = 1e-4

#: The autocast state of each device type: whether it is on, and its dtype.
Autocast = tuple[tuple[str, bool, torch.dtype], ...]


class NotReproducedError(UsageError):
    """A replay did not do what the run did. ``is_finite``: its loss was finite, but the original was not."""

    is_finite = False


@dataclass(slots=True, eq=False)
class LoopCall:
    """A call in the user's loop that ends what is to be replayed: one that computes gradients, or what raised an error.

    ``loss`` is the unscaled loss that gradients are computed of, None where there is none. ``parts`` are the calls of the
    model since the call before, ``random`` the random states after that one.
    ``fetched`` are the batches that came last from a DataLoader; ``began_after`` is where the program was before the step.
    """

    frames: tuple[Frame, ...]
    parts: tuple[Part, ...]
    random: RandomState
    autocast: Autocast
    loss: Tensor | None = None
    fetched: tuple[KeptBatch, ...] = ()
    began_after: Place = ()

    @property
    def is_bad(self) -> bool:
        """Whether the loss is known to be non-finite."""
        return self.loss is not None and not math.isfinite(self.loss.item())


def autocast_now(devices: Sequence[str]) -> Autocast:
    """The current autocast state."""
    return tuple((device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices)


def total_of(tensors: Sequence[Tensor]) -> Tensor | None:
    """The one loss that backward is called with: the sum of several."""
    if not tensors or not all(tensor.numel() == 1 for tensor in tensors):
        return None
    return tensors[0] if len(tensors) == 1 else torch.stack([tensor.reshape(()) for tensor in tensors]).sum()


class ReachedEndError(BaseException):
    """Ends a replay at the call."""


@dataclass(slots=True)
class _Roots:
    """The calls of the model in a replay: they get the arguments of the run, and go to a substitute for the model."""

    substitutes: Mapping[int, nn.Module]
    parts: list[Part]
    restores: bool
    are_recomputed: bool = True

    @contextmanager
    def replaced(self) -> Iterator[None]:
        original = nn.Module.__call__

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if id(module) not in self.substitutes:
                return original(module, *args, **kwargs)
            if torch.is_grad_enabled() and current_graph_task_id() == -1:
                args, kwargs = self._restored(id(module), args, kwargs, sys._getframe(1))
            return original(self.substitutes[id(module)], *args, **kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = original  # type: ignore[method-assign]

    def _restored(self, module: int, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType | None) -> Any:
        """The arguments of the same call in the run: of the same model, from the same line."""
        caller = next(iter(frames_above(frame)), None)
        place = None if caller is None else caller.position
        for number, part in enumerate(self.parts):
            known = part.frames[0].position if part.frames else None
            if part.module == module and (known is None or place is None or known.line == place.line):
                del self.parts[number]
                write_random_state(part.random)
                if not self.restores:
                    return args, kwargs
                with unrecorded():
                    restored = restore_captured((args, kwargs), part.batch)
                pairs = zip(tensors_in(restored), tensors_in((args, kwargs)), strict=False)
                self.are_recomputed = self.are_recomputed and all(one is other for one, other in pairs)
                return restored
        return args, kwargs


class LoopReplay:
    """Code of the loop, ready to run again.

    ``batch`` holds the tensors that it reads, by name; with one name only, it is that object itself. Under a GradScaler
    the loss is left unscaled.
    """

    is_unscaled = True
    runs_backward = False

    def __init__(self, code: LoopCode, frame: Frame, call: LoopCall, substitutes: Mapping[int, nn.Module]) -> None:
        self._code = code
        self._frame = frame
        self._call = call
        self._substitutes = substitutes
        kept = {name: value for (_, name), value in code.inputs[KEPT].items()}
        self._left = {**{name: value for name, value in code.inputs.items() if name != KEPT}, **kept}
        held = {name: self._left[name] for name in sorted(self._left) if _holds_tensors(self._left[name])}
        # Without any other, what was there before the step is the batch of all steps.
        held = {name: value for name, value in held.items() if name not in code.constants} or held
        self._held = tuple(held)
        self._inputs = self._left
        self.may_end = False
        self._found: Tensor | None = None
        #: Which of the requested names is bad.
        self._number: int | None = None
        #: Whether the last run computed the model's inputs again as they were, so that another batch can take their place.
        self.recomputes_inputs = False
        self._is_verified = False
        #: The calls of the model, with what they received, also if they have changed it since.
        self._parts: list[Part] = []
        #: The tensors that it reads, each with its version.
        self._versions: list[tuple[Tensor, int]] = []

    @property
    def overwritten(self) -> list[Tensor]:
        """The tensors that it reads and has overwritten since :meth:`begin`: so has the loop, before."""
        return [tensor for tensor, version in self._versions if version_of(tensor) != version]

    @property
    def taken(self) -> list[Taken]:
        """The non-finite values that the loop computed and the replay does not."""
        return [taken for taken in self._code.taken if _is_bad(taken.value)]

    def begin(self) -> None:
        """Compare the next run with what the loop did; later runs may change the value at fault."""
        self._is_verified = self.recomputes_inputs = False
        # A model, too, may change what it is called with; what was fetched is from before that.
        self._parts = [
            part._replace(batch=part.kept.restored()) if part.kept and part.kept.is_changed else part
            for part in self._call.parts
        ]
        restore = restorer_of([*(part.kept for part in self._parts if part.kept), *self._call.fetched])
        self._inputs = {
            name: map_structure(value, restore) if name in self._held else value for name, value in self._left.items()
        }
        # What it restored may be overwritten again.
        tensors = {id(tensor): tensor for name in self._held for tensor in tensors_in(self._inputs[name])}
        own = {id(tensor) for name in self._held for tensor in tensors_in(self._left[name])}
        self._versions = [
            (tensor, version_of(tensor)) for key, tensor in tensors.items() if key in own and not tensor.is_inference()
        ]

    @property
    def batch(self) -> Any:
        held = {name: self._inputs[name] for name in self._held}
        return next(iter(held.values())) if len(held) == 1 else held

    @property
    def changes(self) -> tuple[int, ...]:
        """The lines of statements that may change a batch in place."""
        return self._code.changes

    @property
    def filename(self) -> str:
        return self._frame.code.co_filename

    def run(self) -> Tensor:
        """Compute the loss. Raises :class:`NotReproducedError` where the first run does not do what the loop did."""
        namespace = self._namespace({})
        roots = _Roots(self._substitutes, list(self._parts), restores=not self.recomputes_inputs)
        loss = self._run(namespace, roots)
        if not self._is_verified:
            with unrecorded():
                self._verify(loss, namespace, roots)
            self._is_verified, self.recomputes_inputs = True, roots.are_recomputed
        return loss

    def _verify(self, loss: Tensor, namespace: Mapping[str, Any], roots: _Roots) -> None:
        if roots.parts:
            raise NotReproducedError("the model was not called as often as in the run")
        for name, value in self._code.results.items():
            again = namespace.get(name)
            if isinstance(value, Tensor) and isinstance(again, Tensor) and not are_equal(value, again):
                raise NotReproducedError(f"'{name}' has another value in the replay")
        known = self._call.loss
        if known is not None and not _is_same(loss, known):
            value = float(loss.detach())
            error = NotReproducedError(f"the loss was {known.item():.6g} and is {value:.6g} in the replay")
            error.is_finite = self._call.is_bad and math.isfinite(value)
            raise error

    def run_on(self, batch: Any) -> Tensor:
        """Compute the loss of another batch."""
        if self._call.parts and not self.recomputes_inputs:
            raise NotReproducedError("the model's inputs do not come from these values")
        held = {self._held[0]: batch} if len(self._held) == 1 else batch
        return self._run(self._namespace(held), _Roots(self._substitutes, [], restores=False))

    def _namespace(self, held: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: _copied(held.get(name, value)) for name, value in self._inputs.items()}
        kept = {key: given[key[1]] for key in self._code.inputs[KEPT]}
        return {**self._frame.globals, **given, KEPT: kept, BEGIN_END: self._begin_end}

    def _begin_end(self, values: tuple[Any, ...] | None = None) -> None:
        """Called before the last statement; or, where names were requested, with their values."""
        self.may_end = True
        if values is not None:
            bad = [number for number, value in enumerate(values) if _bad_total(value) is not None]
            if self._number is None and bad:
                self._number = bad[0]
            if self._number is not None:
                value = values[self._number]
                total = _bad_total(value)
                self._found = total_of([one.sum() for one in tensors_in(value)]) if total is None else total
            raise ReachedEndError

    def _run(self, namespace: dict[str, Any], roots: _Roots) -> Tensor:
        self._found, self.may_end = None, False
        exec(self._code.code, namespace)  # noqa: S102 - the user's own code, from the file that it was run from
        with ExitStack() as stack:
            stack.enter_context(during_replay(self))
            stack.enter_context(roots.replaced())
            stack.enter_context(_without_gradients(self._substitutes.values()))
            for device, is_on, dtype in self._call.autocast:
                stack.enter_context(torch.autocast(device, dtype=dtype, enabled=is_on))
            with suppress(ReachedEndError):
                namespace[FUNCTION]()
        found = self._found_loss()
        if found is None:
            raise NotReproducedError("the replay did not come to the call")
        return found

    def _found_loss(self) -> Tensor | None:
        return self._found

    def on_backward(self, tensors: tuple[Tensor, ...], frame: FrameType) -> None:
        """Take the loss at the call in question; others do nothing."""
        if not self.may_end or not self._is_the_call(frame):
            return
        loss = total_of(tensors)
        self._found = torch.stack([tensor.sum() for tensor in tensors]).sum() if loss is None else loss
        # In a loop, the same call may come several times.
        with unrecorded():
            is_it = loss is None or self._call.loss is None or _is_same(loss, self._call.loss)
        if is_it or self._is_verified:
            raise ReachedEndError

    def _is_the_call(self, frame: FrameType | None) -> bool:
        """Whether the innermost function of the run's call is at the same line; the function with the code is a new one."""
        end = self._call.frames[0]
        if end.code is self._frame.code:
            return True
        place = end.position
        while frame is not None:
            if frame.f_code is end.code:
                return place is None or place.line <= frame.f_lineno <= place.end_line
            frame = frame.f_back
        return False


@contextmanager
def _without_gradients(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put away the gradients of modules, so that the code can clear them."""
    kept = [(parameter, parameter.grad) for module in modules for parameter in module.parameters()]
    for parameter, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


def _copied(value: Any) -> Any:
    """A value whose containers the code may change."""
    if isinstance(value, (dict, list)) and len(value) <= 64:
        return map_structure(value, lambda leaf: leaf, lambda part: not isinstance(part, (dict, list)))
    return value


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, (nn.Module, nn.Parameter)):
        return False
    if isinstance(value, np.ndarray) or (isinstance(value, Mapping) and any(map(_holds_tensors, value.values()))):
        return True
    return any(not isinstance(tensor, nn.Parameter) and tensor.grad_fn is None for tensor in tensors_in(value))


def _is_bad(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "fc" and not bool(np.isfinite(value).all())
    if isinstance(value, float):
        return not math.isfinite(value)
    return any(tensor.is_floating_point() and not bool(tensor.isfinite().all()) for tensor in tensors_in(value))


def _bad_total(value: Any) -> Tensor | None:
    """A bad value as one number: anything non-finite in a scalar, NaN in a larger tensor, where infinities may be masks."""
    for tensor in tensors_in(value):
        if not tensor.is_floating_point() or isinstance(tensor, nn.Parameter):
            continue
        if tensor.numel() == 1 and not bool(tensor.isfinite()):
            return tensor
        if tensor.numel() > 1 and bool(tensor.isnan().any()):
            return tensor.sum()
    return None


def _is_same(replayed: Tensor, run: Tensor) -> bool:
    one, other = float(replayed.detach()), float(run)
    if math.isfinite(one) and math.isfinite(other):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE * 1e-3)
    return (math.isnan(one) and math.isnan(other)) or one == other


def find_replays(
    call: LoopCall, substitutes: Mapping[int, nn.Module], last: Callable[[Frame], Sequence[str]] | None = None
) -> Iterator[LoopReplay]:
    """Ways to replay the loop up to a call, from the innermost function that called the model outwards.

    In each, what is safe to run again is run first, then the user's own helpers too, and then with the random numbers that
    the loop drew: it may have set a seed itself.
    """
    starts = call.parts[0].frames if call.parts else ()
    codes = {frame.code for frame in starts}
    inner = next((index for index, frame in enumerate(call.frames) if frame.code in codes), 0)
    for frame in call.frames[inner : inner + MAX_FUNCTIONS]:
        start = next((one for one in starts if one.code is frame.code), None)
        names = None if last is None else last(frame)
        items = [*find_items(frame, call.fetched), None]
        changed = _changed_storages(frame, call.fetched)
        for way in ("", "helpers", "draws"):
            for item in items:
                code = find_loop_code(frame, start, call.began_after, way=way, last=names, item=item, changed=changed)
                if code is not None:
                    yield LoopReplay(code, frame, call, substitutes)
        if is_in_loop(frame) or stores_outside(frame.rest or frame.code, frame.offset):
            # The functions above began before the step; or they would call this one, and it would change an object again.
            return


def _changed_storages(frame: Frame, fetched: Sequence[KeptBatch]) -> frozenset[int]:
    """The storages of batches that were changed since they were fetched, and of what is non-finite and may have been."""
    known = {storage_id(one.tensor): one.is_changed for kept in fetched for one in kept.tensors}
    found = {key for key, is_changed in known.items() if is_changed}
    for value in frame.names.values():
        for tensor in () if isinstance(value, nn.Module) else tensors_in(value):
            if tensor.layout is not torch.strided or tensor.is_inference() or tensor.requires_grad:
                continue
            if storage_id(tensor) not in known and version_of(tensor) > 0 and count_nonfinite(tensor)[0]:
                found.add(storage_id(tensor))
    return frozenset(found)
