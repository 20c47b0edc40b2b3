"""What takes part in a training run: the things that a guard watches and that its actions may touch."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from datacheck.torch.guard.distributed import RankGroup, find_rank_group, share_of
from datacheck.torch.guard.names import NamedParameter, named_parameters
from datacheck.torch.guard.update_monitor import StateMonitor
from datacheck.torch.replay_state import StepBuffers, StepRandomState

__all__ = ["Scaler", "Stateful", "Training"]


class Stateful(Protocol):
    """A scheduler, or whatever else has a state to be put back."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


#: ``torch.amp.GradScaler``, or one that does as it does.
Scaler = torch.amp.GradScaler


class Training:
    """A model, its optimizers, and what goes along with them.

    ``lr_factor`` is multiplied into every learning rate for the length of each update and taken out again, so that no
    scheduler ever sees it. ``gradient_scale`` is what the gradients are multiplied with while a scaler's loss scale is
    in them. ``step`` counts updates from 1, held ones too; ``num_updates`` those
    that were made and not undone.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        scaler: Scaler | None,
        schedulers: Sequence[Stateful],
        *,
        synchronize: bool,
    ) -> None:
        self.model = model
        self.optimizers = tuple(optimizers)
        self.scaler = scaler
        self.schedulers = tuple(schedulers)
        self.lr_factor = 1.0
        self.gradient_scale = 1.0
        self.step = 0
        self.num_updates = 0
        self._synchronize = synchronize
        self._peers: RankGroup | None = None
        self._peers_are_known = False
        self._groups: list[list[torch.Tensor]] = []
        self._parameters: list[NamedParameter] = []
        self._shares: list[float] = []
        self._shares_by_parameter: dict[int, float] = {}
        self._state: StateMonitor | None = None
        self.buffers = StepBuffers(model)
        self.random = StepRandomState(frozenset(self.devices()))

    def devices(self) -> set[torch.device]:
        """The accelerators that the model lives on; empty for a model in host memory."""
        return {p.device for p in self.model.parameters() if p.device.type not in ("cpu", "meta")}

    @property
    def parameters(self) -> list[NamedParameter]:
        """Every parameter of every optimizer, as :meth:`refresh` last found them."""
        if not self._groups:
            self.refresh()
        return self._parameters

    def refresh(self) -> None:
        """Find the parameters again, if a group was added or was given others; once in a step."""
        groups = [group["params"] for optimizer in self.optimizers for group in optimizer.param_groups]
        if not self._are_known(groups):
            self._groups = [list(group) for group in groups]
            self._parameters = named_parameters(self.model, self.optimizers)
            self._shares = []
            self._shares_by_parameter = {}

    def _are_known(self, groups: Sequence[list[torch.Tensor]]) -> bool:
        if len(groups) != len(self._groups):
            return False
        for known, group in zip(self._groups, groups, strict=True):
            # By identity, in C: == would compare their values.
            if len(known) != len(group) or not all(map(is_, known, group)):
                return False
        return True

    @property
    def state(self) -> StateMonitor:
        parameters = self.parameters
        if self._state is None or self._state.parameters is not parameters:
            self._state = StateMonitor(self.model, parameters, self.optimizers, self._state)
        return self._state

    @property
    def rank_group(self) -> RankGroup | None:
        """The other ranks, looked for at the first step."""
        if not self._peers_are_known:
            self._peers_are_known = True
            self._peers = find_rank_group(self.model) if self._synchronize else None
        return self._peers

    @property
    def shares(self) -> list[float]:
        """What part of each parameter's squares this rank adds to the global sum."""
        if not self._shares:
            size = self.rank_group.size if self.rank_group else 1
            self._shares = [share_of(parameter.tensor, size) for parameter in self.parameters]
        return self._shares

    @property
    def shares_by_parameter(self) -> dict[int, float]:
        """The same by the identity of the parameter."""
        shares = self.shares
        if len(self._shares_by_parameter) != len(shares):
            pairs = zip(self.parameters, shares, strict=True)
            self._shares_by_parameter = {id(parameter.tensor): share for parameter, share in pairs}
        return self._shares_by_parameter

    @property
    def learning_rate(self) -> float | None:
        """The first group's learning rate, as the update uses it."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                rate = group.get("lr")
                if rate is not None and not (isinstance(rate, torch.Tensor) and not rate.is_cpu):
                    return float(rate) * self.lr_factor
        return None
