"""Training loops as people write them, each with a value in its second step that makes it non-finite.

``program(bad, guard)`` trains for three steps inside ``with guard(model, optimizer)`` and returns the model. The line at
fault is marked ``# BUG``. Without ``bad`` nothing is wrong.
"""

from __future__ import annotations

import inspect
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

__all__ = ["PROGRAMS", "Program"]

NUM_STEPS = 3
Guards = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Program:
    run: Callable[[bool, Guards], nn.Module]
    causes: tuple[str, ...]
    samples: tuple[int, ...] | None

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def file(self) -> str:
        return Path(inspect.getsourcefile(self.run) or "").name

    @property
    def lines(self) -> set[int]:
        source, start = inspect.getsourcelines(self.run)
        return {start + offset for offset, line in enumerate(source) if "# BUG" in line}


PROGRAMS: list[Program] = []


def program(*causes: str, samples: tuple[int, ...] | None = None) -> Callable[[Any], Any]:
    def register(run: Any) -> Any:
        PROGRAMS.append(Program(run, causes, samples))
        return run

    return register


#: The loop around a step. It is written to a file, for the guard reads the source of a loop.
LOOP = """
def {name}(bad, guard):
    model = mlp()
    optimizer = sgd(model)
    with guard(model, optimizer):
        for {each}:
{step}
    return model
"""
_folder = tempfile.TemporaryDirectory(prefix="datacheck-loops-")


def in_loop(*causes: str, samples: tuple[int, ...] | None = None, batches: str = "inputs(bad)") -> Callable[[Any], Any]:
    """A program in which the body of a function is that of the loop above."""

    def register(step: Any) -> Any:
        lines = inspect.getsource(step).splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("def ")) + 1
        body = textwrap.indent("\n".join(lines[first:]), " " * 8)
        each = f"step, x in enumerate({batches})" if "step" in inspect.signature(step).parameters else f"x in {batches}"
        file = Path(_folder.name, f"{step.__name__}.py")
        file.write_text(LOOP.format(name=step.__name__, each=each, step=body))
        names = {**globals(), "__name__": step.__name__}
        exec(compile(file.read_text(), file, "exec"), names)
        PROGRAMS.append(Program(names[step.__name__], causes, samples))
        return step

    return register


def mlp(out: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, out))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.01)


def inputs(bad: bool, value: float = 0.0, sample: int = 2) -> list[torch.Tensor]:
    """Three batches of five positive rows; with ``bad``, one value of the second batch is ``value``."""
    generator = torch.Generator().manual_seed(3)
    found = [torch.rand(5, 4, generator=generator) + 0.5 for _ in range(NUM_STEPS)]
    if bad:
        found[1][sample, 1] = value
    return found


@program("log-of-zero-or-negative", samples=(2,))
def loss_in_a_nested_function(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)

    def criterion(x: torch.Tensor) -> torch.Tensor:
        return (model(x).mean(-1) * x.log().sum(-1)).mean()  # BUG

    with guard(model, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            criterion(x).backward()
            optimizer.step()
    return model


@in_loop("log-of-zero-or-negative", samples=(2,))
def features_made_before_the_model_is_called(model, optimizer, x):
    features = x.log()  # BUG
    loss = model(features).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@program("division-by-zero", samples=(2,))
def a_row_normalised_by_its_sum(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    batches = inputs(False)
    if bad:
        batches[1][2] = 0.0
    with guard(model, optimizer):
        for x in batches:
            x = x / x.sum(-1, keepdim=True)  # BUG
            loss = model(x).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@in_loop("sqrt-gradient-at-zero", batches="inputs(False)")
def a_norm_of_equal_points(model, optimizer, x, bad):
    optimizer.zero_grad()
    out = model(x)
    other = out.detach().clone() + 1.0
    if bad and x is not None:
        other[2] = out.detach()[2]
    distance = (out - other).pow(2).sum(-1).sqrt()  # BUG
    distance.mean().backward()
    optimizer.step()


@in_loop("exp-overflow", samples=(2,), batches="inputs(bad, 200.0)")
def a_rate_through_exp(model, optimizer, x, step):
    optimizer.zero_grad()
    rate = (model(x) + x[:, :3]).exp()  # BUG
    loss = (rate - step).mean()
    loss.backward()
    optimizer.step()


@in_loop("empty-reduction", batches="inputs(bad, -1.0)")
def a_mean_over_nothing(model, optimizer, x):
    optimizer.zero_grad()
    keep = (x > 0).all(-1) | torch.tensor(bool(x.min() > 0))
    keep &= x.min() > 0
    loss = model(x)[keep].square().mean()  # BUG
    loss.backward()
    optimizer.step()


@in_loop("variance-of-one", batches="inputs(False)")
def the_std_of_one_row(model, optimizer, x, step, bad):
    rows = x[:1] if bad and step == 1 else x
    optimizer.zero_grad()
    loss = model(rows).std(0).mean()  # BUG
    loss.backward()
    optimizer.step()


@in_loop("fully-masked-softmax", samples=(2,), batches="inputs(False)")
def attention_with_nothing_to_attend_to(model, optimizer, x, step, bad):
    optimizer.zero_grad()
    mask = torch.zeros(5, 3, dtype=torch.bool)
    if bad and step == 1:
        mask[2] = True
    weights = model(x).masked_fill(mask, float("-inf")).softmax(-1)  # BUG
    weights.square().mean().backward()
    optimizer.step()


@in_loop("empty-reduction", batches="inputs(False)")
def all_labels_ignored(model, optimizer, x, step, bad):
    labels = torch.full((5,), -100 if bad and step == 1 else 1)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), labels)  # BUG
    loss.backward()
    optimizer.step()


@program("log-of-zero-or-negative", samples=(2,))
def the_second_micro_batch_of_two(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    data = inputs(bad)
    with guard(model, optimizer):
        for _ in range(2):
            optimizer.zero_grad()
            for x in data[:2]:
                loss = (model(x).mean(-1) * x.log().sum(-1)).mean() / 2  # BUG
                loss.backward()
            optimizer.step()
    return model


@in_loop("log-of-zero-or-negative", samples=(2,))
def two_losses_with_a_backward_each(model, optimizer, x):
    optimizer.zero_grad()
    out = model(x)
    out.square().mean().backward(retain_graph=True)
    (out.mean(-1) * x.log().sum(-1)).mean().backward()  # BUG
    optimizer.step()


@in_loop("log-of-zero-or-negative", samples=(2,))
def backward_of_several_losses_at_once(model, optimizer, x):
    optimizer.zero_grad()
    out = model(x)
    first = out.square().mean()
    second = (out.mean(-1) * x.log().sum(-1)).mean()  # BUG
    torch.autograd.backward([first, second])
    optimizer.step()


@program("log-of-zero-or-negative", samples=(2,))
def a_while_loop_over_an_iterator(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    source = iter(inputs(bad))
    with guard(model, optimizer):
        while (x := next(source, None)) is not None:
            loss = (model(x).mean(-1) * x.log().sum(-1)).mean()  # BUG
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@program("log-of-zero-or-negative", samples=(2,))
def a_loader_of_dicts(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    rows = [{"x": row, "y": torch.tensor(1.0)} for x in inputs(bad) for row in x]
    with guard(model, optimizer):
        for batch in DataLoader(rows, batch_size=5):
            optimizer.zero_grad()
            loss = (model(batch["x"]).mean(-1) * batch["x"].log().sum(-1) * batch["y"]).mean()  # BUG
            loss.backward()
            optimizer.step()
    return model


@program("log-of-zero-or-negative")
def a_trainer_class_with_methods(bad: bool, guard: Guards) -> nn.Module:
    class Trainer:
        def __init__(self) -> None:
            self.model = mlp()
            self.optimizer = sgd(self.model)

        def compute_loss(self, x: torch.Tensor) -> torch.Tensor:
            self.last = self.model(x)
            return (self.last.mean(-1) * x.log().sum(-1)).mean()  # BUG

        def training_step(self, x: torch.Tensor) -> None:
            self.optimizer.zero_grad()
            self.compute_loss(x).backward()
            self.optimizer.step()

        def fit(self) -> None:
            for x in inputs(bad):
                self.training_step(x)

    trainer = Trainer()
    with guard(trainer.model, trainer.optimizer):
        trainer.fit()
    return trainer.model


@program("log-of-zero-or-negative", samples=(2,))
def a_generator_of_batches(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)

    def batches() -> Iterator[torch.Tensor]:
        yield from inputs(bad)

    with guard(model, optimizer):
        for x in batches():
            optimizer.zero_grad()
            logs = x.log()  # BUG
            loss = (model(x).mean(-1) * logs.sum(-1)).mean()
            loss.backward()
            optimizer.step()
    return model


# What the batch was before is gone, so that only the line is known.
@in_loop("unknown", samples=(2,))
def in_place_preprocessing(model, optimizer, x):
    x.log_()  # BUG
    loss = model(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@in_loop("log-of-zero-or-negative", batches="inputs(bad, -5.0)")
def noise_is_drawn_in_the_loop(model, optimizer, x):
    noise = torch.randn_like(x) * 0.01
    loss = (model(x + noise).mean(-1) * (x + noise).log().sum(-1)).mean()  # BUG
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@in_loop("log-of-zero-or-negative", samples=(2,))
def under_autocast(model, optimizer, x):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
        loss = (out.float().mean(-1) * x.log().sum(-1)).mean()  # BUG
    loss.backward()
    optimizer.step()


@program("log-of-zero-or-negative", samples=(2,))
def under_a_scaler(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with guard(model, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            loss = (model(x).mean(-1) * x.log().sum(-1)).mean()  # BUG
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    return model


@in_loop("log-of-zero-or-negative", samples=(2,))
def clipped_before_the_update(model, optimizer, x):
    optimizer.zero_grad()
    loss = (model(x).mean(-1) * x.log().sum(-1)).mean()  # BUG
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


@program("log-of-zero-or-negative", samples=(2,))
def a_model_that_logs_inside(bad: bool, guard: Guards) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.log())  # BUG

    model = Net()
    optimizer = sgd(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    return model


@program("log-of-zero-or-negative")
def under_activation_checkpointing(bad: bool, guard: Guards) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def block(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.log())  # BUG

        def forward(self, x: torch.Tensor) -> Any:
            return checkpoint(self.block, x, use_reentrant=False)

    model = Net()
    optimizer = sgd(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    return model


@program("log-of-zero-or-negative")
def a_compiled_model(bad: bool, guard: Guards) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.log())  # BUG

    model = Net()
    compiled: Any = torch.compile(model, backend="aot_eager")
    optimizer = sgd(model)
    with guard(compiled, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            compiled(x).square().mean().backward()
            optimizer.step()
    return model


@program("masked-branch-gradient", samples=(2,))
def a_masked_branch(bad: bool, guard: Guards) -> nn.Module:
    model = mlp(1)
    optimizer = sgd(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            scaled = model(x).square().squeeze(-1) * x[:, 1]
            safe = torch.where(scaled > 0, scaled.sqrt(), 0.0)  # BUG
            safe.mean().backward()
            optimizer.step()
    return model


@in_loop("domain-error", samples=(2,), batches="inputs(bad, 8.0)")
def an_arc_cosine_above_one(model, optimizer, x):
    optimizer.zero_grad()
    angle = (x / 4.0).acos()  # BUG
    (model(x).mean(-1) * angle.sum(-1)).mean().backward()
    optimizer.step()


@in_loop("overflow", "exp-overflow", samples=(2,), batches="inputs(bad, 1e20)")
def a_power_that_overflows(model, optimizer, x):
    optimizer.zero_grad()
    terms = x.pow(4)  # BUG
    (model(x).mean(-1) * terms.mean(-1)).mean().backward()
    optimizer.step()


@in_loop("float16-overflow", samples=(2,), batches="inputs(bad, 300.0)")
def halves_that_overflow(model, optimizer, x):
    optimizer.zero_grad()
    squares = x.half() * x.half()  # BUG
    (model(x / 300).mean(-1) * squares.float().mean(-1)).mean().backward()
    optimizer.step()


@in_loop("input-not-finite", samples=(2,), batches="inputs(bad, float('nan'))")
def an_input_that_is_nan(model, optimizer, x):
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


@in_loop("input-not-finite", samples=(2,), batches="inputs(bad, float('inf'))")
def a_target_that_is_infinite(model, optimizer, x):
    target = x[:, :3]
    optimizer.zero_grad()
    F.mse_loss(model(torch.ones(5, 4)), target).backward()
    optimizer.step()


@program("bad-custom-backward")
def a_custom_function_with_a_bad_backward(bad: bool, guard: Guards) -> nn.Module:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, fail: bool) -> torch.Tensor:
            ctx.save_for_backward(x)
            ctx.fail = fail
            return x * x

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> Any:
            (x,) = ctx.saved_tensors
            return 2 * x * grad / (0.0 if ctx.fail else 1.0), None  # BUG

    model = mlp()
    optimizer = sgd(model)
    with guard(model, optimizer):
        for step, x in enumerate(inputs(False)):
            optimizer.zero_grad()
            Square.apply(model(x), bad and step == 1).mean().backward()
            optimizer.step()
    return model


@program("log-of-zero-or-negative", samples=(2,))
def two_models_with_an_optimizer_each(bad: bool, guard: Guards) -> nn.Module:
    models = nn.ModuleList([mlp(), mlp()])
    optimizers = [sgd(model) for model in models]
    with guard(models, optimizers):
        for x in inputs(bad):
            first = models[0](x).square().mean()
            optimizers[0].zero_grad()
            first.backward()
            optimizers[0].step()
            second = (models[1](x).mean(-1) * x.log().sum(-1)).mean()  # BUG
            optimizers[1].zero_grad()
            second.backward()
            optimizers[1].step()
    return models


@program("log-of-zero-or-negative")
def noise_drawn_before_the_update_of_the_other_model(bad: bool, guard: Guards) -> nn.Module:
    both = nn.ModuleDict({"first": mlp(1), "second": mlp(1)})
    optimizers = [sgd(both["first"]), sgd(both["second"])]
    with guard(both, optimizers):
        for step, x in enumerate(inputs(False)):
            noise = torch.rand(5, 4) + 0.5
            if bad and step == 1:
                noise[2] = 0.0
            optimizers[0].zero_grad()
            both["first"](x).square().mean().backward()
            optimizers[0].step()
            optimizers[1].zero_grad()
            loss = (both["second"](noise) * torch.log(noise.sum(1, keepdim=True))).mean()  # BUG
            loss.backward()
            optimizers[1].step()
    return both


@program("variance-of-one", "division-by-zero")
def returns_of_an_episode(bad: bool, guard: Guards) -> nn.Module:
    model = mlp(2)
    optimizer = sgd(model)

    def run_episode(x: torch.Tensor) -> tuple[list[torch.Tensor], list[float]]:
        chosen, rewards = [], []
        for row in x:
            chosen.append(model(row).log_softmax(-1)[0])
            rewards.append(1.0)
        return chosen, rewards

    with guard(model, optimizer):
        for step, x in enumerate(inputs(False)):
            chosen, rewards = run_episode(x[:1] if bad and step == 1 else x)
            discounted, returns = 0.0, []
            for reward in rewards[::-1]:
                discounted = reward + 0.99 * discounted
                returns.insert(0, discounted)
            returns = torch.tensor(returns)
            returns = (returns - returns.mean()) / (returns.std() + 1e-9)  # BUG
            loss = torch.stack([-one * value for one, value in zip(chosen, returns, strict=True)]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@program("constant-not-finite")
def class_weights_from_numpy(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    with guard(model, optimizer), np.errstate(all="ignore"):
        for step, x in enumerate(inputs(False)):
            labels = torch.arange(5) % (2 if bad and step == 1 else 3)
            weights = 1.0 / np.bincount(labels.numpy(), minlength=3)  # BUG
            weights = torch.from_numpy(weights / weights.sum()).float()
            loss = F.cross_entropy(model(x), labels, weight=weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@program("log-of-zero-or-negative", samples=(2,))
def a_closure_for_lbfgs(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), 0.01, max_iter=2)
    with guard(model, optimizer):
        for x in inputs(bad):

            def closure() -> Any:
                optimizer.zero_grad()
                loss = (model(x).mean(-1).square() - x.log().sum(-1)).mean()  # noqa: B023 # BUG
                loss.backward()
                return loss

            optimizer.step(closure)
    return model


@in_loop("log-of-zero-or-negative", samples=(2,))
def several_terms_in_a_dict(model, optimizer, x):
    out = model(x)
    losses = {"size": out.square().mean()}
    losses["entropy"] = (out.mean(-1) * x.log().sum(-1)).mean()  # BUG
    total = sum(losses.values())
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


@program("log-of-zero-or-negative")
def a_recurrent_state_is_carried(bad: bool, guard: Guards) -> nn.Module:
    torch.manual_seed(0)
    cell = nn.GRUCell(4, 6)
    optimizer = sgd(cell)
    state = torch.zeros(5, 6)
    with guard(cell, optimizer):
        for x in inputs(bad):
            state = cell(x.log(), state.detach())  # BUG
            loss = state.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return cell


@in_loop("division-by-zero", batches="inputs(False)")
def class_weights_from_counts(model, optimizer, x, step, bad):
    labels = torch.tensor([0, 0, 1, 1, 0] if bad and step == 1 else [0, 1, 2, 1, 0])
    counts = torch.bincount(labels, minlength=3).float()
    weights = counts.sum() / counts  # BUG
    loss = (model(x).softmax(-1) * weights).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@program("degenerate-decomposition")
def the_gradient_of_equal_singular_values(bad: bool, guard: Guards) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Linear(3, 3, bias=False)
    optimizer = sgd(model)
    with guard(model, optimizer):
        for step in range(NUM_STEPS):
            optimizer.zero_grad()
            matrix = model.weight * (0.0 if bad and step == 1 else 1.0) + torch.eye(3)
            u, s, v = torch.linalg.svd(matrix)  # BUG
            (u[:, 0].sum() + s.sum() + v[0].sum() + 0.0 * model(torch.ones(1, 3)).sum()).backward()
            optimizer.step()
    return model


@program("log-of-zero-or-negative", samples=(2,))
def epochs_with_validation_between(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    best = float("inf")
    with guard(model, optimizer):
        for epoch in range(2):
            model.train()
            for x in inputs(bad and epoch == 1):
                loss = (model(x).mean(-1) * x.log().sum(-1)).mean()  # BUG
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                best = min(best, model(torch.ones(2, 4)).square().mean().item())
    return model


@program("log-of-zero-or-negative", samples=(2,))
def a_scheduler_and_an_average_beside(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    average = torch.optim.swa_utils.AveragedModel(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            optimizer.zero_grad()
            loss = F.mse_loss(model(x).mean(-1), x.log().sum(-1))  # BUG
            loss.backward()
            optimizer.step()
            scheduler.step()
            average.update_parameters(model)
    return model


@in_loop("log-of-zero-or-negative", samples=(2,))
def an_assertion_about_the_loss(model, optimizer, x):
    loss = (model(x).mean(-1) * x.log().sum(-1)).mean()  # BUG
    assert torch.isfinite(loss), "please look"
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@program("log-of-zero-or-negative", samples=(2,))
def a_loss_that_is_given_up(bad: bool, guard: Guards) -> nn.Module:
    model = mlp()
    optimizer = sgd(model)
    with guard(model, optimizer):
        for x in inputs(bad):
            loss = (model(x).mean(-1) * x.log().sum(-1)).mean()  # BUG
            if torch.isnan(loss) or torch.isinf(loss):
                continue
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@in_loop("log-of-zero-or-negative", samples=(2,))
def a_value_through_item(model, optimizer, x):
    factor = x.log().sum().item()  # BUG
    loss = model(x).square().mean() * factor
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
