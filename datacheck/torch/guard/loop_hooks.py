"""Hooks in the user's own loop: on the model to see where a step begins, on backward, on the optimizers to check it."""

from __future__ import annotations

import linecache
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from datacheck.findings import Severity
from datacheck.torch._compat import current_graph_task_id, is_transformed, untransformed
from datacheck.torch.diagnosis.restore import leaves_of
from datacheck.torch.guard.batch_values import BatchKeeper, KeptBatch
from datacheck.torch.guard.call_stack import Frame, Place, frames_above, place_of
from datacheck.torch.guard.closure_check import ClosureCheck
from datacheck.torch.guard.deferred import is_capturing
from datacheck.torch.guard.distributed import is_sharded
from datacheck.torch.guard.early_check import EarlyCheck
from datacheck.torch.guard.grad_scaler import GradScaler, fused_scale
from datacheck.torch.guard.hooks import Hook
from datacheck.torch.guard.loop_replay import LoopCall, autocast_now, total_of
from datacheck.torch.guard.names import unwrap_model
from datacheck.torch.guard.owners import ParameterOwners
from datacheck.torch.guard.source_path import is_in_loop
from datacheck.torch.guard.step_parts import detach_all, probe_part
from datacheck.torch.guard.step_runner import StepRunner
from datacheck.torch.guard.step_state import Phase, Source
from datacheck.torch.guard.torch_calls import add_observer, remove_observer

#: Places of calls of backward that are remembered.
MAX_PLACES = 256
#: Steps that the guard runs itself, and the phases in which what the loop calls belongs to a step.
_GRAPHS = "CUDA graphs"
_OWN_SOURCES = frozenset({Source.GUARD, Source.GUARD_CLOSURE})
_PHASES_OF_LOOP = frozenset({Phase.IDLE, Phase.OBSERVE})


class LoopHooks:
    """Opens a step at the first call of the model after an update, keeps its calls of backward, and checks it when an
    optimizer is about to update.
    """

    def __init__(self, runner: StepRunner, *, is_driven_twice: bool = False) -> None:
        self._runner = runner
        self._early = EarlyCheck(runner, is_driven_twice=is_driven_twice)
        self._state = runner.state
        self._handles: list[RemovableHandle] = []
        self._closure: ClosureCheck | None = None
        self._devices = sorted({"cpu", *(device.type for device in runner.training.devices())})
        #: Which optimizers' parameters backward from a place in the program reaches, and where functions call it.
        self._reaches: dict[Place, frozenset[int]] = {}
        self._ends: dict[Any, int] = {}
        self._last_place: Place = ()
        self._owners = ParameterOwners(runner.training)
        #: Functions with the loop of the training: those that called them began before the step, and are of no use.
        self._loops: set[CodeType] = set()
        #: A scaled loss by its id: the loss, and what scaled it.
        self._scaled: dict[int, tuple[Tensor, GradScaler]] = {}
        #: The batches that came last from a DataLoader.
        self._fetched: deque[KeptBatch] = deque(maxlen=2)
        self._keeper, self._arguments = BatchKeeper(), BatchKeeper()
        # Where a whole step is compiled, what the guard does is no part of it.
        self._before_compiled = torch.compiler.disable(self._before_update)  # type: ignore[no-untyped-call]
        self._after_compiled = torch.compiler.disable(self._after_update)  # type: ignore[no-untyped-call]

    @property
    def is_attached(self) -> bool:
        return bool(self._handles)

    def attach(self) -> None:
        if self._handles:
            return
        training = self._runner.training
        for optimizer in training.optimizers:
            self._handles.append(optimizer.register_step_pre_hook(Hook(self._before_update)))
            self._handles.append(optimizer.register_step_post_hook(Hook(self._after_update)))
        model = training.model
        is_collection = isinstance(model, (nn.ModuleList, nn.ModuleDict))
        for name, root in list(model.named_children()) if is_collection else [("", model)]:
            hook = Hook(self._make_forward_hook(name))
            try:
                self._handles.append(root.register_forward_pre_hook(hook, with_kwargs=True, prepend=True))
            except RuntimeError:
                # TorchScript takes no hooks: a step then begins where the last one ended.
                continue
        add_observer(self)

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        remove_observer(self)
        self._fetched.clear()
        self._runner.release_updates()
        self._state.close()

    def finish(self) -> None:
        """Judge what the loop computed last, where it ended before backward, and report that nothing was checked."""
        runner, state = self._runner, self._state
        if not state.awaits_update or state.source is not Source.LOOP:
            return
        if state.new_parts:
            runner.judge_unused_loss(self._unused_loss(state.new_parts[-1].frames))
        elif state.calls and runner.training.step == 1:
            detail = "the guard's optimizer was never stepped, so no step was checked; what made the updates?"
            runner.log.add_note("the optimizer", detail, Severity.WARNING)

    # Calls of the model.

    def _make_forward_hook(self, root: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            # In a backward pass, activation checkpointing calls the model again.
            if torch.compiler.is_compiling() or current_graph_task_id() != -1 or is_capturing():
                return
            state = self._state
            state.has_gradients = torch.is_grad_enabled()
            if state.source is Source.LOOP and state.phase is not Phase.DIAGNOSE:
                self._before_forward(root, module, args, kwargs)

        return hook

    def _before_forward(self, root: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        runner, state = self._runner, self._state
        has_gradients = torch.is_grad_enabled()
        if not has_gradients and not module.training:
            return
        frames = frames_above(sys._getframe(2), state.outside, last=self._loops, small=True) if has_gradients else ()
        if state.awaits_update and state.new_parts and has_gradients:
            self._judge_unused_loss(frames)
        elif state.calls and self._early.ends_step(frames):
            runner.close()
            state.began_after = self._last_place
        if not state.awaits_update:
            runner.begin()
        if has_gradients:
            random = runner.training.random
            began_with = random.read() if state.parts else random.state
            batch = tuple(map(detach_all, args)), {name: detach_all(value) for name, value in kwargs.items()}
            part = probe_part(root, batch, began_with, frames, id(module))
            runner.add_part(part._replace(kept=self._arguments.keep(batch)))

    def _judge_unused_loss(self, frames: tuple[Frame, ...]) -> None:
        """Judge the loss of a loop that has come to the same call of the model again, without backward."""
        last = self._state.new_parts[-1].frames
        if not frames or not last or (last[0].code, last[0].offset) != (frames[0].code, frames[0].offset):
            return
        frame: FrameType | None = sys._getframe(3)
        code = last[0].code
        while frame is not None and frame.f_code is not code:
            frame = frame.f_back
        if frame is not None and any(map(_is_bad_loss, frame.f_locals.values())):
            self._runner.judge_unused_loss(self._unused_loss(last))

    def _unused_loss(self, frames: tuple[Frame, ...]) -> LoopCall | None:
        """What ends in the call of backward that the loop has come to before, after a call of the model."""
        for number, frame in enumerate(frames):
            offset = self._ends.get(frame.code)
            if offset is not None:
                end = Frame(frame.code, offset, frame.names, frame.globals, is_past=True)
                state = self._state
                autocast = autocast_now(self._devices)
                return LoopCall(
                    (end, *frames[number + 1 :]),
                    state.new_parts,
                    state.random_after_call,
                    autocast,
                    began_after=state.began_after,
                )
        return None

    # Calls of backward and of a scaler.

    def before_backward(self, tensors: tuple[Tensor, ...], frame: FrameType) -> None:
        """Keep a call of backward from a loss of the model."""
        runner, state = self._runner, self._state
        if state.source in _OWN_SOURCES or state.phase not in _PHASES_OF_LOOP or is_capturing():
            return
        scaled = self._scaled
        loss = total_of([scaled[id(one)][0] if id(one) in scaled else one for one in tensors] if scaled else tensors)
        place = place_of(frame, state.outside)
        reached = self._find_reached(tensors, loss, place)
        if not reached:
            return
        frames = frames_above(frame, state.outside, last=self._loops)
        if not state.awaits_update:
            runner.begin(late=True)
        if scaled:
            self._adopt_scaler(tensors)
            scaled.clear()
        loss = None if loss is None else loss.detach()
        self._keep_call(frames, place, reached, loss)
        if loss is not None:
            state.losses.append(loss)
        self._early.begin()
        # Its gradients are added to those that were checked.
        state.decisions.clear()

    def before_grad(
        self, outputs: tuple[Tensor, ...], inputs: tuple[Tensor, ...], frame: FrameType, *, keeps_graph: bool
    ) -> bool:
        """Keep a call that returns gradients with respect to the weights, or what stands for them."""
        runner, state = self._runner, self._state
        if state.source in _OWN_SOURCES or state.phase not in _PHASES_OF_LOOP or is_capturing():
            return False
        reached = self._owners.find(inputs)
        is_own = bool(reached)
        if not is_own:
            if not self._owners.are_copies(inputs):
                return False
            reached = frozenset(range(len(runner.training.optimizers)))
        frames = frames_above(frame, state.outside, last=self._loops)
        if not state.awaits_update:
            runner.begin(late=True)
        # Of single samples, as under vmap, it is unknown.
        loss = total_of([untransformed(untransformed(one).detach()) for one in outputs])
        self._keep_call(frames, place_of(frame, state.outside), reached, loss)
        if loss is not None:
            state.add_grad_loss(loss, keeps_graph=keeps_graph, is_own=is_own)
        if any(map(is_transformed, outputs)):
            # Within a transform, nothing can be read.
            return False
        self._early.begin()
        return True

    def owns(self, inputs: tuple[Tensor, ...]) -> bool:
        return bool(self._owners.find(inputs))

    def _keep_call(self, frames: tuple[Frame, ...], place: Place, reached: frozenset[int], loss: Tensor | None) -> None:
        state = self._state
        self._arguments.review([part.kept for part in state.new_parts])
        autocast, fetched = autocast_now(self._devices), tuple(self._fetched)
        random, began_after = state.random_after_call, state.began_after
        state.add_call(LoopCall(frames, state.new_parts, random, autocast, loss, fetched, began_after))
        state.reached |= reached
        if place != self._last_place:
            self._last_place = place
            self._ends.update((one.code, one.offset) for one in frames if one.rest is None)
            for one in frames:
                # Read now, so that a file that is edited while training runs is known as it runs.
                linecache.getlines(one.code.co_filename)
            self._note_loop(frames)

    def _note_loop(self, frames: tuple[Frame, ...]) -> None:
        """Find the innermost function that calls the model and, in a loop, backward."""
        calls = {frame.code for part in self._state.calls[-1].parts for frame in part.frames}
        loop = next((one for one in frames if one.code in calls and is_in_loop(one)), None)
        if loop is not None and len(self._loops) < MAX_PLACES:
            self._loops.add(loop.code)

    def after_backward(self) -> None:
        self._after_gradients(None)

    def after_grad(self, inputs: tuple[Tensor, ...], gradients: Sequence[Tensor | None]) -> None:
        self._after_gradients(list(zip(inputs, gradients, strict=True)))

    def _after_gradients(self, returned: Sequence[tuple[Tensor, Tensor | None]] | None) -> None:
        if self._state.source not in _OWN_SOURCES and self._state.phase is Phase.OBSERVE and not is_capturing():
            self._state.random_after_call = self._runner.training.random.read()
            self._early.check(returned)

    def _find_reached(self, tensors: tuple[Tensor, ...], loss: Tensor | None, place: Place) -> frozenset[int]:
        """The optimizers whose parameters backward reaches; found out once for each place in the program."""
        state = self._state
        known, parts = self._reaches.get(place), state.new_parts
        is_called = bool(parts) and parts[-1] is not state.last_part
        if known is not None and not (known or is_called):
            return known
        state.last_part = parts[-1] if parts else None
        # A place may be a helper that several models share: where it matters, it is found out again.
        if known is None or (loss is not None and loss.is_cpu and not math.isfinite(loss.item())):
            if len(self._reaches) >= MAX_PLACES:
                self._reaches.clear()
            training = self._runner.training
            owners = {id(parameter.tensor): parameter.optimizer for parameter in training.parameters}
            leaves = (leaf for tensor in tensors for leaf in leaves_of(tensor))
            known = frozenset(owners[id(leaf)] for leaf in leaves if id(leaf) in owners)
            if not known and is_called and is_sharded(unwrap_model(training.model)):
                # Sharded parameters are gathered into other tensors.
                known = frozenset(range(len(training.optimizers)))
            self._reaches[place] = known
        return known

    def _adopt_scaler(self, tensors: tuple[Tensor, ...]) -> None:
        """Take note of a GradScaler that the guard was not given."""
        scaler = next((self._scaled[id(one)][1] for one in tensors if id(one) in self._scaled), None)
        if scaler is not None and not self._runner.training.scaler.is_active:
            self._runner.adopt_scaler(scaler)

    def after_fetch(self, batch: Any) -> None:
        self._keeper.review(self._fetched)
        self._fetched.append(self._keeper.keep(batch))
        if self._runner.schema is not None:
            self._runner.schema.add_fetched(batch)

    def after_scale(self, scaler: GradScaler, unscaled: Tensor, scaled: Tensor) -> None:
        if len(self._scaled) < MAX_PLACES:
            self._scaled[id(scaled)] = unscaled, scaler

    def before_scaler_step(self, _scaler: GradScaler, _optimizer: Optimizer) -> None:
        self._state.is_scaler_stepping, self._state.has_stepped = True, False

    def after_scaler_step(self, scaler: GradScaler, optimizer: Optimizer) -> None:
        """Judge a step whose update the scaler has left out."""
        runner, state = self._runner, self._state
        state.is_scaler_stepping = False
        is_ours = any(optimizer is own for own in runner.training.optimizers) and runner.training.scaler.is_scaler(
            scaler
        )
        if not is_ours or state.has_stepped or state.source in _OWN_SOURCES:
            return
        decided = state.decisions.pop(id(optimizer), None)
        if state.is_open:
            runner.judge_skipped_update(optimizer, is_judged=decided is not None)

    def after_scaler_update(self, scaler: GradScaler) -> None:
        if self._runner.training.scaler.is_scaler(scaler):
            self._runner.after_scale_update()

    # Updates.

    def _partners_of(self, optimizer: Optimizer) -> tuple[Optimizer, ...]:
        """The optimizers that step for the same loss: of one container, or reached by its gradients."""
        training, reached = self._runner.training, self._state.reached
        partners = training.partners_of(optimizer)
        # A scaler unscales the gradients of each optimizer when it steps it.
        if (
            len(training.optimizers) == 1
            or training.scaler.is_active
            or training.optimizers.index(optimizer) not in reached
        ):
            return partners
        others = (training.optimizers[index] for index in sorted(reached))
        return (*partners, *(one for one in others if one not in partners and id(one) not in self._state.updated))

    def _before_update(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if torch.compiler.is_compiling():
            return self._before_compiled(optimizer, args, kwargs)
        runner, state = self._runner, self._state
        if is_capturing():
            runner.log.add_note(_GRAPHS, "steps that are captured and replayed call no hooks: they are not checked")
            return None
        state.has_stepped = True
        if not state.is_scaler_stepping:
            runner.training.scaler.note_plain_update()
        self._early.is_stepped = True
        if runner.held:
            runner.held.release(optimizer)
        if state.phase is Phase.DIAGNOSE:
            # A replay makes no update.
            runner.held.hold(optimizer)
            return None
        if state.source is Source.GUARD:
            # Checked by Guard.step already.
            runner.prepare_update(optimizer)
            return None
        runner.training.refresh()
        decided = state.decisions.pop(id(optimizer), None)
        if decided is not None:
            self._apply(optimizer, makes_update=decided)
            return None
        if not state.is_open or id(optimizer) in state.updated:
            runner.begin(late=True)
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._check_update(optimizer)
            return None
        self._closure = ClosureCheck(
            runner, optimizer, closure, runner.training.parameters_of(runner.training.partners_of(optimizer))
        )
        self._allow_update(optimizer)
        if len(args) > 1:
            return (args[0], self._closure, *args[2:]), kwargs
        return args, {**kwargs, "closure": self._closure}

    def _check_update(self, optimizer: Optimizer) -> None:
        runner = self._runner
        if self._state.decided_early is not None:
            self._apply(optimizer, makes_update=self._state.decided_early)
            return
        scale, may_overflow = fused_scale(optimizer)
        partners = self._partners_of(optimizer)
        makes_update = runner.check(
            runner.training.parameters_of(partners),
            self._state.known_losses,
            scale,
            may_overflow=may_overflow,
            optimizer=runner.training.optimizers.index(optimizer),
        )
        for partner in partners:
            if partner is not optimizer:
                self._state.decisions[id(partner)] = makes_update
        self._apply(optimizer, makes_update=makes_update)

    def _apply(self, optimizer: Optimizer, *, makes_update: bool) -> None:
        if makes_update:
            self._allow_update(optimizer)
        else:
            self._runner.held.hold(optimizer)

    def _allow_update(self, optimizer: Optimizer) -> None:
        self._runner.monitor.updates.before_update()
        self._runner.prepare_update(optimizer)

    def _after_update(self, optimizer: Optimizer, *_: Any) -> None:
        if torch.compiler.is_compiling():
            self._after_compiled(optimizer)
            return
        runner, state = self._runner, self._state
        if is_capturing():
            return
        was_held = bool(runner.held) and runner.held.release(optimizer)
        if state.source is Source.GUARD or state.phase is Phase.DIAGNOSE:
            return
        state.updated.add(id(optimizer))
        if self._closure is not None:
            was_held = state.is_closure_held
            if was_held:
                self._closure.undo()
            self._closure = None
        if not was_held and all(id(one) in state.updated for one in runner.training.partners_of(optimizer)):
            runner.after_update()
        if len(state.updated) == len(runner.training.optimizers):
            runner.close()
        else:
            # What the loop computes from here on is for another loss.
            state.began_after = place_of(sys._getframe(1), state.outside)


def _is_bad_loss(value: Any) -> bool:
    """Whether a variable holds a non-finite loss. On an accelerator, looking would make the host wait."""
    if not isinstance(value, Tensor) or value.numel() != 1 or value.grad_fn is None or not value.is_cpu:
        return False
    return value.is_floating_point() and not math.isfinite(value.item())
