"""Keeping ``optimizer.step`` from changing anything, or from using the full learning rate."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer


class HeldUpdates:
    """What is taken from optimizers for the length of one ``step``, and given back after it.

    A hook can stop an optimizer only by raising. To hold an update, its gradients are taken away: optimizers skip
    parameters without one, so neither moments nor weight decay change.
    """

    def __init__(self) -> None:
        self._gradients: dict[int, Callable[[], None]] = {}
        self._rates: dict[int, Callable[[], None]] = {}
        self._gates: dict[int, Callable[[], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._gradients or self._rates or self._gates)

    def is_held(self, optimizer: Optimizer) -> bool:
        return id(optimizer) in self._gradients

    def hold(self, optimizer: Optimizer) -> None:
        """Keep ``optimizer.step`` from changing anything until it returns."""
        gradients = []
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradients.append((parameter, parameter.grad))
                parameter.grad = None
        # Some optimizers count steps in their groups.
        options = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]

        def give_back() -> None:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            for group, kept in zip(optimizer.param_groups, options, strict=True):
                group.update(kept)

        self._gradients[id(optimizer)] = give_back

    def gate(self, optimizer: Optimizer, flag: Tensor) -> None:
        """Let a fused optimizer change nothing if ``flag``, on its device, is 1: as it does for a GradScaler."""
        optimizer.found_inf = flag  # type: ignore[attr-defined]

        def give_back() -> None:
            del optimizer.found_inf  # type: ignore[attr-defined]

        self._gates[id(optimizer)] = give_back

    def scale_rates(self, optimizer: Optimizer, factor: float) -> None:
        """Multiply the learning rates by ``factor`` until ``optimizer.step`` returns."""
        rates = [(group, group["lr"]) for group in optimizer.param_groups if "lr" in group]
        for group, rate in rates:
            group["lr"] = rate * factor

        def give_back() -> None:
            for group, rate in rates:
                group["lr"] = rate

        self._rates[id(optimizer)] = give_back

    def release(self, optimizer: Optimizer) -> bool:
        """Give back what was taken; returns whether the update was held."""
        for held in (self._rates, self._gates, self._gradients):
            was_held = id(optimizer) in held
            if was_held:
                held.pop(id(optimizer))()
        return was_held
