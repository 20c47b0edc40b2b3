"""Training loops that compute gradients without ``backward``, or change them, in the form of :mod:`loop_programs`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from loop_programs import Guards, in_loop, inputs, mlp, program, sgd
from torch import nn
from torch.autograd import grad
from torch.func import functional_call, vmap


@in_loop("log-of-zero-or-negative", samples=(2,))
def gradients_that_are_assigned(model, optimizer, x):
    loss = (model(x).sum(1) * torch.log(x).sum(1)).mean()  # BUG
    for parameter, gradient in zip(model.parameters(), torch.autograd.grad(loss, model.parameters()), strict=True):
        parameter.grad = gradient
    optimizer.step()


@program("sqrt-gradient-at-zero", samples=(2,))
def gradients_of_a_helper(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)

    def gradients_of(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        names = [name for name, _ in model.named_parameters()]
        return dict(zip(names, grad(loss, list(model.parameters())), strict=True))

    def train_step(x: torch.Tensor) -> float:
        loss = (model(x) * x[:, 1:2]).square().sum(1).sqrt().mean()  # BUG
        gradients = gradients_of(loss)
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name]
        optimizer.step()
        return loss.item()

    with guard(model, optimizer):
        for x in inputs(bad):
            train_step(x)
    return model


@program("log-of-zero-or-negative")
def learning_to_learn(bad: bool, guard: Guards) -> nn.Module:
    model = mlp(1)
    optimizer = sgd(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            fast = dict(model.named_parameters())
            for _ in range(2):
                inner = (functional_call(model, fast, (x,)) - torch.log(x)).square().mean()  # BUG
                gradients = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
                fast = {name: p - 0.01 * g for (name, p), g in zip(fast.items(), gradients, strict=True)}
            functional_call(model, fast, (x,)).square().mean().backward()
            optimizer.step()
    return model


@program("log-of-zero-or-negative", samples=(2,))
def gradients_of_a_copy(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            learner = copy.deepcopy(model)
            loss = (learner(x).sum(1) * torch.log(x).sum(1)).mean()  # BUG
            gradients = torch.autograd.grad(loss, list(learner.parameters()))
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    return model


@program("log-of-zero-or-negative")
def a_loss_after_a_look_ahead(bad: bool, guard: Guards) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = sgd(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            loss = model(x).square().mean()
            first = torch.autograd.grad(loss, tuple(model.parameters()), create_graph=True)
            weight, bias = [p - 0.01 * g for p, g in zip(model.parameters(), first, strict=True)]
            ahead = (torch.nn.functional.linear(x, weight, bias) - torch.log(x)).abs().mean()  # BUG
            for p, g in zip(model.parameters(), torch.autograd.grad(ahead, tuple(model.parameters())), strict=True):
                p.grad = g
            optimizer.step()
    return model


@program("log-of-zero-or-negative", samples=(2,))
def a_functional_gradient(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)

    def compute_loss(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return (functional_call(model, parameters, (x,)).sum(1) * torch.log(x).sum(1)).mean()  # BUG

    with guard(model, optimizer):
        for x in inputs(bad):
            gradients, _ = torch.func.grad_and_value(compute_loss)(dict(model.named_parameters()), x)
            for name, parameter in model.named_parameters():
                parameter.grad = gradients[name].detach()
            optimizer.step()
    return model


@program("division-by-zero")
def gradients_of_single_samples(bad: bool, guard: Guards) -> nn.Module:
    model = nn.Linear(4, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = sgd(model)

    def loss_of_one(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return (functional_call(model, parameters, (x,)) * x.prod()).sum()

    with guard(model, optimizer):
        for x in inputs(bad):
            parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
            each = vmap(torch.func.grad(loss_of_one), in_dims=(None, 0))(parameters, x)
            factor = 1.0 / each["weight"].flatten(1).norm(dim=1)  # BUG
            model.weight.grad = (each["weight"] * factor[:, None, None]).mean(0)
            optimizer.step()
    return model


@program("division-by-zero")
def gradients_that_are_normalised(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    total = 0.0
    with guard(model, optimizer):
        for step, x in enumerate(inputs(False)):
            optimizer.zero_grad()
            loss = (model(x) * (0.0 if bad and step == 1 else 1.0)).square().mean()
            loss.backward()
            total += loss.item()
            norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
            for p in model.parameters():
                assert p.grad is not None
                p.grad.div_(norm)  # BUG
            optimizer.step()
    return model


class EarlySAM(torch.optim.Optimizer):
    """Sharpness-aware minimization that subtracts what it added: from weights that are NaN, in vain."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.01})
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.01)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def _move(self, sign: float) -> None:
        for parameter in self.param_groups[0]["params"]:
            if sign > 0:
                self.state[parameter]["moved"] = 0.05 * parameter.grad / (parameter.grad.norm() + 1e-12)
            parameter.add_(self.state[parameter]["moved"], alpha=sign)

    def first_step(self) -> None:
        self._move(1.0)
        self.zero_grad()

    def second_step(self) -> None:
        self._move(-1.0)
        self.base_optimizer.step()
        self.zero_grad()


def sharpness_aware(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = EarlySAM(model.parameters())
    with guard(model, optimizer):
        for x in inputs(bad):
            (model(x).sum(1) * torch.log(x).sum(1)).mean().backward()  # BUG
            optimizer.first_step()
            (model(x).sum(1) * torch.log(x).sum(1)).mean().backward()
            optimizer.second_step()
    return model


def updates_of_the_loop(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    with guard(model, sgd(model)):
        for x in inputs(bad):
            loss = (model(x).sum(1) * torch.log(x).sum(1)).mean()  # BUG
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter -= 0.01 * gradient
    return model


def updates_of_the_loop_after_backward(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    with guard(model, sgd(model)):
        for x in inputs(bad):
            (model(x).sum(1) * torch.log(x).sum(1)).mean().backward()  # BUG
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.data -= 0.01 * parameter.grad
                parameter.grad = None
    return model


def updates_in_double_precision_of_a_part(bad: bool, guard: Guards) -> nn.Module:
    model = mlp().double()
    head = list(model[2].parameters())
    with guard(model, sgd(model)):
        for x in inputs(bad):
            loss = (model(x.double()).sum(1) * torch.log(x).sum(1)).mean()  # BUG
            gradients = torch.autograd.grad(loss, head)
            with torch.no_grad():
                for parameter, gradient in zip(head, gradients, strict=True):
                    parameter -= 0.01 * gradient
    return model


def adversarial_weights(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            (model(x).sum(1) * torch.log(x).sum(1)).mean().backward()  # BUG
            with torch.no_grad():
                moved = [0.05 * p.grad / (p.grad.norm() + 1e-12) for p in model.parameters() if p.grad is not None]
                for p, move in zip(model.parameters(), moved, strict=True):
                    p.add_(move)
            optimizer.zero_grad()
            model(x).square().mean().backward()
            with torch.no_grad():
                for p, move in zip(model.parameters(), moved, strict=True):
                    p.sub_(move)
            optimizer.step()
    return model


#: Programs that change the weights before an optimizer is stepped. A step that is skipped must leave them as they were.
EARLY: list[Callable[[bool, Guards], nn.Module]] = [
    sharpness_aware,
    updates_of_the_loop,
    updates_of_the_loop_after_backward,
    updates_in_double_precision_of_a_part,
    adversarial_weights,
]
for each in EARLY:
    program("log-of-zero-or-negative", samples=(2,))(each)
