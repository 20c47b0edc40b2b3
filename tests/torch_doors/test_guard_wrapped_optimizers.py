"""Optimizers inside what trainers wrap around them: the ones that make the update are watched and rolled back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.optim import Optimizer  # noqa: E402

from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import Guard  # noqa: E402
from datacheck.torch.guard.actions import Rollback  # noqa: E402
from datacheck.torch.guard.wrappers import plain_optimizers  # noqa: E402


class Delegating(Optimizer):
    """As in Accelerate: everything is the inner optimizer's."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def state(self) -> Any:
        return self.optimizer.state

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)


class Container(Optimizer):
    """As in torchtitan: an optimizer for each part of the model, and a base class that has all parameters and no state."""

    def __init__(self, parts: list[nn.Module]) -> None:
        self.optimizers = [torch.optim.Adam(part.parameters(), lr=0.1) for part in parts]
        super().__init__([parameter for part in parts for parameter in part.parameters()], {})

    def __iter__(self) -> Iterator[Optimizer]:
        return iter(self.optimizers)

    def step(self, closure: Any = None) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)


class Lookahead(Optimizer):
    """Changes weights itself, so it is no mere wrapper."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        super().__init__([{"params": group["params"]} for group in optimizer.param_groups], {})
        self.state = defaultdict(dict)

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)


class FastaiLike:
    """As in fastai: no optimizer of torch, but one inside."""

    def __init__(self, opt: Optimizer) -> None:
        self.opt = opt


def make() -> tuple[nn.Sequential, list[Optimizer]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return model, [torch.optim.Adam(part.parameters(), lr=0.1) for part in (model[0], model[2])]


def test_wrappers_and_containers_are_opened_and_others_are_not() -> None:
    model, (first, second) = make()
    container, outer = Container([model[0], model[2]]), Lookahead(first)
    assert plain_optimizers(first) == [first]
    assert plain_optimizers([first, second]) == [first, second]
    assert plain_optimizers(Delegating(Delegating(first))) == [first]
    assert plain_optimizers([Delegating(first), FastaiLike(second)]) == [first, second]
    assert plain_optimizers(container) == container.optimizers
    assert plain_optimizers([container, container.optimizers[0]]) == container.optimizers
    assert plain_optimizers(outer) == [outer]
    assert plain_optimizers([3, None]) == [3, None]


@pytest.mark.parametrize("kind", ["delegating", "container"])
def test_a_rollback_restores_the_moments_inside(kind: str) -> None:
    model, optimizers = make()
    optimizer: Any = Container([model[0], model[2]])
    if kind == "delegating":
        optimizer = Delegating(torch.optim.Adam(model.parameters(), lr=0.1))
    guard = Guard(model, optimizer, on_trip=Rollback(every_n_steps=2))
    inner = plain_optimizers(optimizer)
    assert optimizers

    def moments() -> list[torch.Tensor]:
        values = [state[name].clone() for one in inner for state in one.state.values() for name in ("step", "exp_avg")]
        return [*values, *(parameter.detach().clone() for parameter in model.parameters())]

    kept = []
    for step in range(4):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (model(x if step < 3 else x * torch.nan) ** 2).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        kept.append(moments())
    assert all(map(torch.equal, kept[3], kept[1]))
    assert not all(map(torch.equal, kept[2], kept[1]))
    guard.remove()


def test_the_optimizers_of_a_container_are_held_together() -> None:
    model, _ = make()
    optimizer = Container([model[0], model[2]])
    guard = Guard(model, optimizer, on_trip="skip")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    (model(torch.randn(5, 3)) ** 2).mean().backward()
    assert model[2].weight.grad is not None
    model[2].weight.grad[0, 0] = torch.inf
    optimizer.step()
    assert all(map(torch.equal, model.parameters(), before))
    assert guard.report().num_rows == 1
    optimizer.zero_grad()
    (model(torch.randn(5, 3)) ** 2).mean().backward()
    optimizer.step()
    assert not any(map(torch.equal, model.parameters(), before))
    assert guard.report().num_rows == 2
    guard.remove()


class SharpnessAware(Optimizer):
    """As in implementations of SAM: moves the weights up the gradient, and updates after a second backward pass."""

    def __init__(self, parameters: Any, rho: float = 0.05) -> None:
        super().__init__(parameters, {"rho": rho})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["old"] = parameter.clone()
            parameter.add_(parameter.grad, alpha=0.05)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.copy_(self.state[parameter]["old"])
        self.base_optimizer.step()
        self.zero_grad()


def train_twice(model: nn.Module, optimizer: Any, bad: int) -> None:
    for step in range(4):
        x = torch.rand(5, 3, generator=torch.Generator().manual_seed(step)) + 3
        if step == bad:
            x[1] = -50.0
        for update in (optimizer.first_step, optimizer.second_step):
            torch.log(x.sum(1) + model(x).sum(1)).mean().backward()
            update()


def test_both_backward_passes_of_sharpness_aware_minimization_are_checked_before_its_update() -> None:
    runs = []
    for guarded, bad in ((False, -1), (True, -1), (True, 2)):
        model, _ = make()
        optimizer = SharpnessAware(model.parameters())
        guard = Guard(model, optimizer, on_trip="skip") if guarded else None
        train_twice(model, optimizer, bad)
        runs.append([parameter.detach().clone() for parameter in model.parameters()])
        if guard is not None:
            found = guard.last_diagnosis
            assert (found is None) == (bad < 0)
            assert found is None or (found.cause, found.step) == ("log-of-zero-or-negative", 3)
            with pytest.raises(UsageError, match="needs two in each update"):
                guard.step(lambda model, x: model(x).mean(), torch.rand(2, 3))
            guard.remove()
    assert all(map(torch.equal, runs[0], runs[1]))
    assert all(bool(weight.isfinite().all()) for weight in runs[2])


def test_an_optimizer_whose_step_is_never_called_is_reported() -> None:
    model, (first, _) = make()
    with Guard(model, first) as guard:
        for _ in range(2):
            model(torch.rand(2, 3)).mean().backward()
    assert [finding.code for finding in guard.report().findings] == ["DC005"]
    assert "was never stepped" in guard.report().findings[0].message
