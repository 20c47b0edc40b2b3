"""Replaying what a loop did with the gradients of a step before its update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from datacheck.torch._compat import unrecorded
from datacheck.torch.guard.call_stack import Frame
from datacheck.torch.guard.gradient_source import find_gradient_code
from datacheck.torch.guard.loop_replay import LoopCall, LoopReplay, ReachedEndError
from datacheck.torch.guard.loop_source import LoopCode
from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.values import bad_positions, dense_parts, index_of, is_finite


class GradientReplay(LoopReplay):
    """Code of the loop up to its update, ready to run again: computes the first non-finite value of a gradient."""

    runs_backward = True

    def __init__(
        self,
        code: LoopCode,
        frame: Frame,
        call: LoopCall,
        substitutes: Mapping[int, nn.Module],
        parameters: Sequence[NamedParameter],
    ) -> None:
        super().__init__(code, frame, call, substitutes)
        self._parameters = parameters

    def _begin_end(self, values: tuple[Any, ...] | None = None) -> None:  # noqa: ARG002 - none are requested
        gradients = [one.tensor.grad.detach() for one in self._parameters if one.tensor.grad is not None]
        with unrecorded():
            dense = [part for gradient in gradients for part in dense_parts(gradient)]
            bad = next((part for part in dense if not is_finite(part)), None)
            first = 0 if bad is None else int(bad_positions(bad)[0])
            # In the memory of the gradient, so that what wrote it is found.
            self._found = torch.zeros(()) if bad is None else bad[index_of(first, bad.shape)]
        raise ReachedEndError

    def on_backward(self, tensors: tuple[Tensor, ...], frame: FrameType) -> None:
        """Gradients are computed as in the run."""


def find_gradient_replays(
    calls: Sequence[LoopCall],
    parts: Sequence[Any],
    at_update: Sequence[Frame],
    substitutes: Mapping[int, nn.Module],
    parameters: Sequence[NamedParameter],
) -> Iterator[GradientReplay]:
    """Ways to replay a step from its beginning to its update, in the function that makes both."""
    call = replace(calls[0], parts=tuple(parts), loss=None)
    starts = {frame.code: frame for part in reversed(parts) for frame in part.frames}
    for frame in call.frames:
        update = next((one for one in at_update if one.code is frame.code), None)
        if update is None:
            continue
        for way in ("", "helpers", "draws"):
            code = find_gradient_code(frame, update, starts.get(frame.code), call.began_after, way)
            if code is not None:
                yield GradientReplay(code, frame, call, substitutes, parameters)
