"""Optimizers inside what trainers wrap around them: the ones that make the update are watched and rolled back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.optim import Optimizer  # noqa: E402

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
