"""The only place that talks to a GradScaler."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datacheck.torch._compat import is_unscaled

#: ``torch.amp.GradScaler``, or one with the same methods.
GradScaler = torch.amp.GradScaler

#: The scale that a GradScaler starts with.
INITIAL_SCALE = 2.0**16


class LossScaler:
    """What the guard needs of a GradScaler. Without one, or with one that is disabled, the scale is 1."""

    def __init__(self, scaler: GradScaler | None) -> None:
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self._last_scale: float | None = None
        #: Updates made outside of its ``step``, with gradients still scaled unless the loop unscaled them itself.
        self.num_plain_updates = 0

    @property
    def given(self) -> GradScaler | None:
        """The scaler that is used, if any."""
        return self._scaler

    @property
    def is_active(self) -> bool:
        return self._scaler is not None

    def is_scaler(self, scaler: object) -> bool:
        """Whether this is the scaler that is used."""
        return self._scaler is scaler

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Run backward from the scaled loss."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward(**kwargs)  # type: ignore[no-untyped-call]

    def scale_on_device(self, model: nn.Module) -> Tensor | float:
        """The current scale, left on the accelerator of ``model``: no host sync."""
        if self._scaler is None:
            return 1.0
        devices = (parameter.device for parameter in model.parameters())
        device = next((device for device in devices if device.type not in ("cpu", "meta")), torch.device("cpu"))
        return self._scaler.scale(torch.ones((), device=device))

    def scale_in_gradients(self, model: nn.Module, optimizer: Optimizer) -> Tensor | float:
        """The scale that is still in the gradients of an optimizer: 1 once they were unscaled."""
        return 1.0 if is_unscaled(self._scaler, optimizer) else self.scale_on_device(model)

    def current_scale(self) -> float:
        """The current scale. This waits for an accelerator."""
        self._last_scale = 1.0 if self._scaler is None else self._scaler.get_scale()
        return self._last_scale

    def known_scale(self, *, is_on_host: bool) -> float | None:
        """The scale without a host sync: on an accelerator, the last one that was read. None without a scaler."""
        if self._scaler is None:
            return None
        return self._scaler.get_scale() if is_on_host else self._last_scale

    def note_plain_update(self) -> None:
        """Count an update that is made without the scaler."""
        self.num_plain_updates += self._scaler is not None

    def unscale(self, optimizer: Optimizer) -> None:
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Step the optimizer, unless its gradients overflowed under the scale."""
        if self._scaler is None:
            optimizer.step()
        else:
            self._scaler.step(optimizer)

    def update(self) -> None:
        """Adjust the scale after a step."""
        if self._scaler is not None:
            self._scaler.update()

    def state_dict(self) -> dict[str, Any] | None:
        return None if self._scaler is None else copy.deepcopy(self._scaler.state_dict())

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        if self._scaler is not None and state is not None:
            self._scaler.load_state_dict(dict(state))


def fused_scale(optimizer: Optimizer) -> tuple[Tensor | float, bool]:
    """The scale of the gradients that a GradScaler gives to a fused optimizer, and whether they may have overflowed.

    A scaler unscales the gradients of every other optimizer, and does not step it after an overflow.
    """
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else scale, getattr(optimizer, "found_inf", None) is not None
