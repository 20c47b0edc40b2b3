"""The objects of a training run that a guard watches and its actions may change."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from datacheck.torch.guard.distributed import RankGroup, find_rank_group, share_of
from datacheck.torch.guard.grad_scaler import LossScaler
from datacheck.torch.guard.names import NamedParameter, named_parameters
from datacheck.torch.guard.update_monitor import StateMonitor
from datacheck.torch.replay_state import StepBuffers, StepRandomState


class Stateful(Protocol):
    """A scheduler, or anything else whose state can be restored."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class Training:
    """A model, its optimizers, and the scaler and schedulers used with them.

    ``lr_factor`` multiplies every learning rate during an update only, so no scheduler sees it. ``gradient_scale`` is the
    loss scale in the gradients. ``step`` counts updates from 1, held ones too; ``num_updates`` counts those that were made
    and not undone.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        scaler: LossScaler,
        schedulers: Sequence[Stateful],
        *,
        synchronize: bool,
    ) -> None:
        self.model = model
        self.optimizers = tuple(optimizers)
        #: Optimizers that share a loss and step together, by the identity of each.
        self._partners: dict[int, tuple[Optimizer, ...]] = {}
        self.scaler = scaler
        self.schedulers = tuple(schedulers)
        self.lr_factor = 1.0
        self.gradient_scale = 1.0
        self.step = 0
        self.num_updates = 0
        #: The step to whose state an action has just gone back.
        self.went_back_to: int | None = None
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

    def group_optimizers(self, groups: Sequence[tuple[Optimizer, ...]]) -> None:
        """Take note of the optimizers that step together."""
        self._partners = {id(optimizer): group for group in groups for optimizer in group if len(group) > 1}

    def partners_of(self, optimizer: Optimizer) -> tuple[Optimizer, ...]:
        """The optimizers that step together with this one, itself included."""
        return self._partners.get(id(optimizer), (optimizer,))

    def devices(self) -> set[torch.device]:
        """The accelerators with parameters of the model; empty for a model in host memory."""
        return {p.device for p in self.model.parameters() if p.device.type not in ("cpu", "meta")}

    @property
    def parameters(self) -> list[NamedParameter]:
        """Every parameter of every optimizer, as :meth:`refresh` last found them."""
        if not self._groups:
            self.refresh()
        return self._parameters

    def parameters_of(self, optimizers: Sequence[Optimizer]) -> list[NamedParameter]:
        """The parameters of some of the optimizers."""
        if len(optimizers) == len(self.optimizers):
            return self.parameters
        indices = {self.optimizers.index(optimizer) for optimizer in optimizers}
        return [parameter for parameter in self.parameters if parameter.optimizer in indices]

    def refresh(self) -> None:
        """Find the parameters again if a parameter group was added or changed; called once a step."""
        groups = [group["params"] for optimizer in self.optimizers for group in optimizer.param_groups]
        if not self._is_unchanged(groups):
            self._groups = [list(group) for group in groups]
            self._parameters = named_parameters(self.model, self.optimizers)
            self._shares = []
            self._shares_by_parameter = {}

    def _is_unchanged(self, groups: Sequence[list[torch.Tensor]]) -> bool:
        if len(groups) != len(self._groups):
            return False
        for known, group in zip(self._groups, groups, strict=True):
            # By identity, in C: == would compare values.
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
        """The ranks of the run, looked up at the first step."""
        if not self._peers_are_known:
            self._peers_are_known = True
            self._peers = find_rank_group(self.model) if self._synchronize else None
        return self._peers

    @property
    def shares(self) -> list[float]:
        """The part of each parameter's squares that this rank adds to the global sum."""
        if not self._shares:
            size = self.rank_group.size if self.rank_group else 1
            self._shares = [share_of(parameter.tensor, size) for parameter in self.parameters]
        return self._shares

    @property
    def shares_by_parameter(self) -> dict[int, float]:
        """The same, by the identity of the parameter."""
        shares = self.shares
        if len(self._shares_by_parameter) != len(shares):
            pairs = zip(self.parameters, shares, strict=True)
            self._shares_by_parameter = {id(parameter.tensor): share for parameter, share in pairs}
        return self._shares_by_parameter

    @property
    def learning_rate(self) -> float | None:
        """The learning rate of the first group as the update applies it."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                rate = group.get("lr")
                if rate is not None and not (isinstance(rate, torch.Tensor) and not rate.is_cpu):
                    return float(rate) * self.lr_factor
        return None
