"""A guard stops what would harm the weights, and otherwise changes nothing."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import (  # noqa: E402
    Guard,
    GuardConfig,
    NonFiniteError,
    Skip,
)

pytestmark = pytest.mark.torch

Batch = tuple[torch.Tensor, torch.Tensor]


class Net(nn.Module):
    """Two layers, with what is asked for between them."""

    def __init__(self, *middle: nn.Module, checkpointed: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.middle = nn.Sequential(*middle)
        self.last = nn.Linear(8, 3)
        self.checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = checkpoint(self.middle, x, use_reentrant=False) if self.checkpointed else self.middle(x)
        return self.last(x)


class Shared(nn.Module):
    """One layer called three times, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(6, 3)
        self.shared = nn.Linear(3, 3)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.into(x)
        for _ in range(3):
            x = torch.tanh(self.shared(x))
        return x


@dataclass
class Output:
    logits: torch.Tensor
    extra: dict[str, tuple[torch.Tensor, str]]


class Structured(nn.Module):
    """A model whose parts give dicts and dataclasses."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            return {"x": self.linear(x), "nothing": None}

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()

    def forward(self, x: torch.Tensor) -> Output:
        x = self.part(x)["x"]
        return Output(x, {"more": (x * 2, "text")})


class Embedded(nn.Module):
    """Sparse gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 3, sparse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x.abs().mul(3).long().clamp(max=9)).sum(1)


def mean_squares(model: nn.Module, batch: Batch) -> torch.Tensor:
    x, y = batch
    output = model(x)
    output = output.logits if isinstance(output, Output) else output
    return ((output - y) ** 2).mean()


def in_bfloat16(model: nn.Module, batch: Batch) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return mean_squares(model, batch)


def in_float16(model: nn.Module, batch: Batch) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.float16):
        return mean_squares(model, batch)


def batches(number: int, seed: int = 3) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(number):
        yield torch.randn(5, 6, generator=generator), torch.randn(5, 3, generator=generator)


def bad_batch() -> Batch:
    x, y = next(batches(1, seed=9))
    x[2, 4] = float("nan")
    return x, y


def state_of(model: nn.Module, *optimizers: torch.optim.Optimizer) -> list[torch.Tensor]:
    tensors = [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state.get(parameter, {})
                tensors += [value.clone() for value in state.values() if isinstance(value, torch.Tensor)]
    return tensors


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one.nan_to_num(7.5), other.nan_to_num(7.5)) for one, other in zip(first, second, strict=True)
    )


def one_step(
    mode: str,
    guard: Guard,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    loss_fn: Any = mean_squares,
) -> None:
    if mode == "step":
        guard.step(loss_fn, batch)
        return
    optimizer.zero_grad()
    loss_fn(model, batch).backward()
    optimizer.step()


def steps(guard: Guard, loss_fn: Any, many: Iterable[Any]) -> None:
    for batch in many:
        guard.step(loss_fn, batch)


def adamw(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.05, **options)


def sgd(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, **options)


class TwoPrecisions(nn.Module):
    """Float32 weights beside float64 ones, which are sampled tensor by tensor as they are on an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.single, self.double_ = nn.Linear(6, 8), nn.Linear(8, 1).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.double_(self.single(x).double()).float()


RECIPES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], torch.optim.Optimizer], Callable[..., Any]]] = {
    "sgd": (Net, lambda model: sgd(model, momentum=0.9, weight_decay=0.1), mean_squares),
    "adamw": (Net, adamw, mean_squares),
    "foreach": (Net, lambda model: adamw(model, foreach=True), mean_squares),
    "fused": (Net, lambda model: adamw(model, fused=True), mean_squares),
    "dropout": (lambda: Net(nn.Dropout(0.5)), adamw, mean_squares),
    "in-place relu": (lambda: Net(nn.ReLU(inplace=True)), sgd, mean_squares),
    "batch norm": (lambda: Net(nn.BatchNorm1d(8), nn.ReLU()), adamw, mean_squares),
    "checkpointing": (lambda: Net(nn.BatchNorm1d(8), nn.Dropout(0.2), checkpointed=True), sgd, mean_squares),
    "bfloat16 autocast": (lambda: Net(nn.GELU()), adamw, in_bfloat16),
    "shared and unused": (Shared, adamw, mean_squares),
    "structured outputs": (Structured, adamw, mean_squares),
    "sparse gradients": (Embedded, lambda model: torch.optim.SparseAdam(model.parameters(), lr=0.1), mean_squares),
    "two precisions": (TwoPrecisions, adamw, mean_squares),
    "double": (lambda: Net().double(), adamw, lambda m, b: mean_squares(m, (b[0].double(), b[1].double()))),
}


def train(recipe: str, mode: str, watch: str = "step") -> list[torch.Tensor]:
    make_model, make_optimizer, loss_fn = RECIPES[recipe]
    torch.manual_seed(0)
    model = make_model()
    optimizer = make_optimizer(model)
    if mode == "step":
        guard = Guard(model, optimizer, watch=watch, every_n_steps=2)
        for batch in batches(6):
            guard.step(loss_fn, batch)
        assert guard.report().ok, str(guard.report())
    else:
        guard = Guard(model, optimizer, watch=watch) if mode == "loop" else None
        for batch in batches(6):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
        assert guard is None or guard.report().ok
    return state_of(model, optimizer)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("mode", "watch"), [("step", "step"), ("step", "layers"), ("loop", "step"), ("loop", "layers")]
)
def test_training_is_bit_for_bit_the_same_with_a_guard(recipe: str, mode: str, watch: str) -> None:
    assert same(train(recipe, "plain"), train(recipe, mode, watch))


@pytest.mark.parametrize("watch", ["step", "layers"])
def test_a_grad_scaler_gives_the_same_weights(watch: str) -> None:
    def run(with_guard: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Net(nn.ReLU())
        optimizer, scaler = adamw(model), torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=2)
        guard = Guard(model, optimizer, scaler=scaler, watch=watch) if with_guard else None
        for batch in batches(12):
            if guard is not None:
                guard.step(in_float16, batch)
                continue
            optimizer.zero_grad()
            scaler.scale(in_float16(model, batch)).backward()
            scaler.step(optimizer)
            scaler.update()
        assert guard is None or guard.report().ok, "the infinities of a scaler are expected"
        return [*state_of(model, optimizer), torch.tensor(scaler.get_scale())]

    assert same(run(False), run(True))


def test_accumulation_and_clipping_give_the_same_weights() -> None:
    def run(with_guard: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Net(nn.Dropout(0.3))
        optimizer = adamw(model)
        if with_guard:
            guard = Guard(model, optimizer, accumulation_steps=3, max_grad_norm=0.5)
            for batch in batches(9):
                guard.step(mean_squares, batch)
            assert guard.report().num_rows == 3
            return state_of(model, optimizer)
        for number, batch in enumerate(batches(9), 1):
            if number % 3 == 1:
                optimizer.zero_grad()
            (mean_squares(model, batch) / 3).backward()
            if number % 3 == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
        return state_of(model, optimizer)

    assert same(run(False), run(True))


def test_several_optimizers_and_groups_give_the_same_weights() -> None:
    def run(mode: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Net(nn.ReLU())
        first = torch.optim.SGD([{"params": model.first.weight}, {"params": [model.first.bias], "lr": 0.3}], lr=0.1)
        second = torch.optim.AdamW(model.last.parameters())
        guard = None if mode == "plain" else Guard(model, [first, second])
        for batch in batches(5):
            if mode == "step":
                assert guard is not None
                guard.step(mean_squares, batch)
                continue
            first.zero_grad()
            second.zero_grad()
            mean_squares(model, batch).backward()
            first.step()
            second.step()
        return state_of(model, first, second)

    assert same(run("plain"), run("step"))
    assert same(run("plain"), run("loop"))


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_gives_the_same_weights(search: str | None) -> None:
    def run(mode: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Net(nn.Tanh())
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.3, max_iter=4, line_search_fn=search)
        guard = None if mode == "plain" else Guard(model, optimizer)
        for batch in batches(3):
            if mode == "step":
                assert guard is not None
                guard.step(mean_squares, batch)
                continue

            def closure(batch: Batch = batch) -> torch.Tensor:
                optimizer.zero_grad()
                loss = mean_squares(model, batch)
                loss.backward()
                return loss

            optimizer.step(closure)
        return state_of(model)

    assert same(run("plain"), run("step"))
    assert same(run("plain"), run("loop"))


@pytest.mark.parametrize("watch", ["step", "layers"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_has_no_graph_break_and_the_same_weights(watch: str, in_place: bool) -> None:
    def run(with_guard: bool) -> list[torch.Tensor]:
        torch._dynamo.reset()
        torch.manual_seed(0)
        model: Any = Net(nn.BatchNorm1d(8), nn.ReLU())
        parameters = model.parameters()
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        if in_place:
            model.compile(backend="aot_eager", fullgraph=True)
        compiled = model if in_place else torch.compile(model, backend="aot_eager", fullgraph=True)
        guard = Guard(compiled, optimizer, watch=watch) if with_guard else None
        for batch in batches(4):
            optimizer.zero_grad()
            mean_squares(compiled, batch).backward()
            optimizer.step()
        if guard is not None:
            assert guard.report().ok
            notes = [finding.detail or "" for finding in guard.report().findings]
            assert ["but not the gradients with respect to them" in note for note in notes] == [True] * (
                watch == "layers"
            )
        return state_of(model, optimizer)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(run(False), run(True))


@pytest.mark.parametrize("mode", ["step", "loop"])
def test_a_nan_in_the_batch_stops_the_step_before_anything_is_harmed(mode: str) -> None:
    torch.manual_seed(0)
    model = Net(nn.BatchNorm1d(8))
    optimizer = adamw(model)
    guard = Guard(model, optimizer)
    for batch in batches(3):
        guard.step(mean_squares, batch)
    before = state_of(model, optimizer)
    with pytest.raises(NonFiniteError) as caught:
        one_step(mode, guard, model, optimizer, bad_batch())
    assert same(before, state_of(model, optimizer)), "weights, moments and running statistics are as before"
    diagnosis = caught.value.diagnosis
    assert (diagnosis.cause, diagnosis.phase, diagnosis.samples) == ("input-not-finite", "input", (2,))
    assert diagnosis.step == 4
    codes = [finding.code for finding in guard.report().findings]
    assert codes == ["DC450", "DC407", "DC460"]
    assert torch.isfinite(guard.step(mean_squares, next(batches(1)))), "and training can go on"


def test_a_nonfinite_gradient_under_a_finite_loss_is_traced_to_its_forward_line() -> None:
    model = nn.Linear(4, 4, bias=False)
    nn.init.zeros_(model.weight)
    guard = Guard(model, sgd(model))

    def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch).pow(2).sum(1).sqrt().mean()  # the line

    with pytest.raises(NonFiniteError) as caught:
        guard.step(loss_fn, torch.ones(3, 4))
    diagnosis = caught.value.diagnosis
    assert (diagnosis.cause, diagnosis.phase) == ("sqrt-gradient-at-zero", "backward")
    assert diagnosis.source is not None
    assert "# the line" in diagnosis.source
    assert guard.report().findings[0].code == "DC451"
    assert torch.equal(model.weight, torch.zeros(4, 4))


def test_a_fault_in_the_loss_code_of_a_loop_is_reported_with_its_line() -> None:
    model = Net()
    optimizer = sgd(model)
    with Guard(model, optimizer) as guard:
        optimizer.zero_grad()
        loss = (model(torch.ones(2, 6)).mean() * 0).log()  # in the loop
        guard.backward(loss)
        with pytest.raises(NonFiniteError) as caught:
            optimizer.step()
    assert caught.value.diagnosis.cause == "log-of-zero-or-negative"
    assert "# in the loop" in (caught.value.diagnosis.source or "")
    assert guard.report().findings[0].code == "DC450"


def masked_attention(model: nn.Module, batch: Batch) -> torch.Tensor:
    scores = model(batch[0]).masked_fill(batch[1] > 0, float("-inf"))
    return scores.softmax(-1).nan_to_num(0.0).pow(2).mean()


def normalised(model: nn.Module, batch: Batch) -> torch.Tensor:
    rows = nn.functional.normalize(torch.cat([model(batch[0]), torch.zeros(1, 3)]))
    side_effect = torch.zeros(3).log() - torch.zeros(3).log()
    assert side_effect.isnan().all()
    return rows.sum()


@pytest.mark.parametrize("watch", ["step", "layers"])
@pytest.mark.parametrize("loss_fn", [masked_attention, normalised])
def test_values_that_never_reach_the_loss_or_a_gradient_do_not_trip(loss_fn: Any, watch: str) -> None:
    model = Net()
    model.register_buffer("mask", torch.full((3,), float("-inf")))
    guard = Guard(model, adamw(model), watch=watch)
    for x, _ in batches(4):
        y = torch.tensor([[1.0, -1.0, 1.0]]).expand(5, 3)
        guard.step(loss_fn, (x, y))
    assert not guard.report().findings


@pytest.mark.parametrize("scale", [1e20, 1e30])
def test_finite_gradients_whose_squares_overflow_do_not_trip(scale: float) -> None:
    model = nn.Linear(3, 3)
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=1e-32))
    guard.step(lambda model, batch: model(batch).mean() * scale, torch.ones(2, 3))
    assert guard.report().ok
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert guard.history.gradient_norms[-1] == pytest.approx(float(gradients.double().norm()))


@pytest.mark.parametrize("place", [(0, 0), (7, 5)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_one_bad_value_in_one_gradient_is_always_found(
    dtype: torch.dtype, value: float, place: tuple[int, int]
) -> None:
    parameter = nn.Parameter(torch.ones(8, 6, dtype=dtype))
    model = nn.Module()
    model.weight = parameter
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    guard = Guard(model, optimizer, on_trip="skip")
    for layout in (torch.contiguous_format, "transposed"):
        gradient = torch.ones(8, 6, dtype=dtype) if layout != "transposed" else torch.ones(6, 8, dtype=dtype).T
        gradient[place] = value
        parameter.grad = gradient
        optimizer.step()
    assert [f.code for f in guard.report().findings if f.is_error].count("DC451") == 2
    assert torch.equal(parameter.detach(), torch.ones(8, 6, dtype=dtype))


def test_adam_without_epsilon_is_diagnosed_from_the_update() -> None:
    model = nn.Linear(3, 3)
    guard = Guard(model, torch.optim.AdamW(model.parameters(), eps=0.0))
    with pytest.raises(NonFiniteError) as caught:
        guard.step(lambda model, batch: model(batch).sum() * 0.0, torch.ones(2, 3))
    diagnosis = caught.value.diagnosis
    assert (diagnosis.code, diagnosis.phase, diagnosis.cause) == ("DC406", "optimizer", "optimizer-epsilon")
    assert diagnosis.op == "AdamW.step"
    assert [finding.code for finding in guard.report().findings][:2] == ["DC457", "DC455"]


def test_a_diverging_learning_rate_is_diagnosed_from_the_history() -> None:
    torch.manual_seed(0)
    model = Net()
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=3.0))
    batch = next(batches(1))
    with pytest.raises(NonFiniteError) as caught:
        steps(guard, mean_squares, repeat(batch, 200))
    assert caught.value.diagnosis.cause == "learning-rate-too-high"


def test_a_fault_that_does_not_repeat_is_reported_as_not_reproducible() -> None:
    model = Net()
    guard = Guard(model, sgd(model), watch="layers")
    calls = []

    def once(model: nn.Module, batch: Batch) -> torch.Tensor:
        calls.append(1)
        return mean_squares(model, batch) * (float("nan") if len(calls) == 1 else 1.0)

    with pytest.raises(NonFiniteError) as caught:
        guard.step(once, next(batches(1)))
    assert (caught.value.diagnosis.code, caught.value.diagnosis.cause) == ("DC409", "not-reproducible")


def test_a_replay_draws_the_same_random_numbers() -> None:
    torch.manual_seed(0)
    model = Net(nn.Dropout(0.5))
    guard = Guard(model, sgd(model))

    def unlucky(model: nn.Module, batch: Batch) -> torch.Tensor:
        model(batch[0])
        draw = torch.rand(())
        return mean_squares(model, batch) + torch.where(draw > 0.9, (draw - draw) / (draw - draw), 0.0)

    with pytest.raises(NonFiniteError) as caught:
        steps(guard, unlucky, batches(500))
    assert caught.value.diagnosis.cause == "division-by-zero"


def test_a_replay_leaves_the_random_generators_where_the_step_left_them() -> None:
    model = Net(nn.Dropout(0.5))
    guard = Guard(model, sgd(model))
    torch.manual_seed(1)
    model(bad_batch()[0])
    expected = torch.rand(3)
    torch.manual_seed(1)
    with pytest.raises(NonFiniteError):
        guard.step(mean_squares, bad_batch())
    assert torch.equal(torch.rand(3), expected)


def test_an_error_caused_by_a_nan_is_explained() -> None:
    model = nn.Linear(2, 2)
    guard = Guard(model, sgd(model))

    def decompose(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        rates = model(batch).log()
        return torch.distributions.Normal(rates, 1.0, validate_args=True).mean.sum()

    with pytest.raises(NonFiniteError) as caught:
        guard.step(decompose, torch.full((2, 2), -100.0) * model.weight.detach().sign().sum(0))
    assert isinstance(caught.value.__cause__ or caught.value.__context__, ValueError)


def test_an_unrelated_error_passes_through() -> None:
    model = Net()
    guard = Guard(model, sgd(model))

    def wrong(model: nn.Module, batch: Batch) -> torch.Tensor:
        raise ValueError("no such file, or an invalid name")

    with pytest.raises(ValueError, match="no such file"):
        guard.step(wrong, next(batches(1)))
    guard.step(mean_squares, next(batches(1)))


def test_gradients_that_are_bad_at_any_scale_are_not_left_to_the_scaler() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 4, bias=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    guard = Guard(model, sgd(model), scaler=scaler)

    def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return (model(batch) * 0).pow(2).sum().sqrt()

    with pytest.raises(NonFiniteError) as caught:
        steps(guard, loss_fn, repeat(torch.ones(2, 4), 30))
    assert caught.value.diagnosis.cause == "sqrt-gradient-at-zero"
    assert guard.report().findings[0].code == "DC451"
    assert guard.report().num_rows == 3, "one infinity, or two, may be the scale's"


def test_a_loss_scale_that_collapses_is_a_finding() -> None:
    model = nn.Linear(1, 1, bias=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.0), scaler=scaler, min_loss_scale=16.0)

    def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return model(batch).half().float().mean() * 30000.0

    with pytest.raises(NonFiniteError) as caught:
        steps(guard, loss_fn, repeat(torch.ones(2, 1), 30))
    finding = guard.report().findings[0]
    assert finding.code == "DC454"
    assert finding.detail == "8, below 16"
    assert caught.value.diagnosis.cause == "float16-overflow"


def test_a_collapsed_loss_scale_is_found_in_a_loop_too() -> None:
    model = nn.Linear(4, 4, bias=False)
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=8.0)
    Guard(model, optimizer, scaler=scaler)

    def loop() -> None:
        for _ in range(30):
            optimizer.zero_grad()
            scaler.scale((model(torch.ones(2, 4)) * 0).pow(2).sum().sqrt()).backward()
            scaler.step(optimizer)
            scaler.update()

    with pytest.raises(NonFiniteError):
        loop()


def test_a_nan_in_one_evaluation_of_a_closure_undoes_the_search() -> None:
    torch.manual_seed(0)
    model = Net(nn.Tanh())
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=10)
    guard = Guard(model, optimizer)
    guard.step(mean_squares, next(batches(1)))
    before = state_of(model)
    calls = []

    def late(model: nn.Module, batch: Batch) -> torch.Tensor:
        calls.append(1)
        return mean_squares(model, batch) + (torch.zeros(()).log() if len(calls) >= 3 else 0.0)

    with pytest.raises(NonFiniteError):
        guard.step(late, next(batches(1)))
    assert len(calls) >= 3
    assert same(before, state_of(model))


def test_evaluation_between_steps_changes_nothing() -> None:
    torch.manual_seed(0)
    model = Net(nn.BatchNorm1d(8))
    optimizer = sgd(model)
    with Guard(model, optimizer, watch="layers") as guard:
        for batch in batches(4):
            optimizer.zero_grad()
            mean_squares(model, batch).backward()
            optimizer.step()
            model.eval()
            with torch.no_grad():
                assert mean_squares(model, bad_batch()).isnan()
            model.train()
        assert guard.report().ok
        assert guard.report().num_rows == 4


def test_removing_a_guard_leaves_no_hook_behind() -> None:
    model = Net(nn.ReLU())
    optimizer = sgd(model)

    def hooks() -> int:
        found = 0
        for module in model.modules():
            found += sum(len(value) for name, value in vars(module).items() if "hooks" in name)
        return found + len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)

    assert hooks() == 0
    with Guard(model, optimizer, watch="layers") as guard:
        assert hooks() > 0
        guard.step(mean_squares, next(batches(1)))
    assert hooks() == 0
    with pytest.raises(UsageError, match="removed"):
        guard.step(mean_squares, next(batches(1)))


def test_copied_and_saved_models_have_no_working_hooks() -> None:
    model = Net(nn.ReLU())
    guard = Guard(model, sgd(model), watch="layers")
    copied = copy.deepcopy(model)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for other in (copied, loaded):
        mean_squares(other, bad_batch()).backward()
    guard.step(mean_squares, next(batches(1)))
    assert guard.report().ok


class _CountReads(TorchDispatchMode):
    """Counts what would be a host sync on an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.num_reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_reads += "_local_scalar_dense" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("watch", ["step", "layers"])
def test_a_step_reads_one_scalar_however_many_layers_there_are(watch: str) -> None:
    model = Net(*(nn.Linear(8, 8) for _ in range(20)))
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1, foreach=True), watch=watch)
    guard.step(mean_squares, next(batches(1)))
    with _CountReads() as counting:
        guard.step(mean_squares, next(batches(1)))
    assert counting.num_reads == 1


@pytest.mark.slow
@pytest.mark.parametrize("watch", ["step", "layers"])
def test_ten_thousand_steps_do_not_grow_memory(watch: str) -> None:
    model = nn.Linear(2, 1)
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.0), watch=watch, history_length=50)
    batch = torch.ones(1, 2)

    def run(number: int) -> int:
        for _ in range(number):
            guard.step(lambda model, batch: model(batch).mean(), batch)
        gc.collect()
        return len(gc.get_objects())

    first = run(500)
    assert run(9500) - first < 200
    assert len(guard.history.losses) == 50


def test_a_non_scalar_loss_is_a_usage_error() -> None:
    model = Net()
    guard = Guard(model, sgd(model))
    with pytest.raises(UsageError, match=r"shape \(5, 3\).*loss.mean"):
        guard.step(lambda model, batch: model(batch[0]), next(batches(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"watch": "layer"}, "did you mean 'layers'"),
        ({"on_trip": "rase"}, "did you mean 'raise'"),
        ({"on_trip": ()}, "empty"),
        ({"on_trip": 3}, "names, actions and functions"),
        ({"every_n_steps": 0}, "every_n_steps=0"),
        ({"accumulation_steps": 1.5}, "accumulation_steps=1.5"),
        ({"max_grad_norm": -1.0}, "max_grad_norm"),
        ({"on_trip": Skip}, r"Skip\(\), got its class"),
        ({"on_trip": ("warn", "skip", "skip")}, "duplicate"),
        ({"bundle_dir": 3}, "bundle_dir=3"),
        ({"synchronize": "yes"}, "synchronize='yes'"),
        ({"scaler": 3}, "GradScaler, got int"),
        ({"scheduler": [3]}, "schedulers, got int"),
    ],
)
def test_invalid_options_are_usage_errors(options: dict[str, Any], message: str) -> None:
    model = Net()
    with pytest.raises(UsageError, match=message):
        Guard(model, sgd(model), **options)


def test_options_are_real_parameters_with_the_defaults_of_the_configuration() -> None:
    parameters = inspect.signature(Guard).parameters
    own = {"model", "optimizer", "on_trip", "scaler", "scheduler", "log"}
    options = {name: parameter.default for name, parameter in parameters.items() if name not in own}
    assert options == {field.name: field.default for field in dataclasses.fields(GuardConfig)}
    assert {parameter.kind for name, parameter in parameters.items() if name in options} == {
        inspect.Parameter.KEYWORD_ONLY
    }


def test_a_misspelled_option_is_a_type_error_that_names_it() -> None:
    model = Net()
    with pytest.raises(TypeError, match="unexpected keyword argument 'evry_n_steps'"):
        Guard(model, sgd(model), evry_n_steps=2)  # type: ignore[call-arg]


def test_a_wrong_model_or_optimizer_is_a_usage_error() -> None:
    model = Net()
    with pytest.raises(UsageError, match=r"nn\.Module"):
        Guard(lambda x: x, sgd(model))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="needs an optimizer"):
        Guard(model, [])
    with pytest.raises(UsageError, match=r"optim\.Optimizer"):
        Guard(model, [model])  # type: ignore[list-item]


def test_a_parameter_group_added_later_is_watched() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.first.parameters(), lr=0.1)
    guard = Guard(model, optimizer)
    guard.step(mean_squares, next(batches(1)))
    optimizer.add_param_group({"params": model.last.parameters()})
    guard.step(mean_squares, next(batches(1)))
    optimizer.zero_grad()
    model.last.bias.grad = torch.full((3,), float("inf"))
    with pytest.raises(NonFiniteError):
        optimizer.step()


def test_samples_that_break_the_schema_make_the_trip_a_fault_in_the_data() -> None:
    model = nn.Linear(2, 1)
    schema = {"version": 1, "fields": {"x": {"ge": 0.0}}}
    guard = Guard(model, sgd(model), schema=schema)
    batch = {"x": torch.tensor([[1.0, 2.0], [3.0, -4.0]])}
    with pytest.raises(NonFiniteError) as caught:
        guard.step(lambda model, batch: model(batch["x"].log()).mean(), batch)
    assert caught.value.diagnosis.cause == "input-out-of-schema"
    assert caught.value.diagnosis.samples == (1,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modules_that_hooks_cannot_see_are_reported_and_training_goes_on() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.vmap(self.inner)(x)

    for model in (Mapped(), torch.jit.script(nn.Sequential(nn.Linear(2, 2)))):
        guard = Guard(model, sgd(model), watch="layers")
        guard.step(lambda model, batch: model(batch).mean(), torch.ones(3, 2))
        (finding,) = guard.report().findings
        assert finding.code == "DC005"
        with pytest.raises(NonFiniteError):
            guard.step(lambda model, batch: model(batch).mean(), torch.full((3, 2), float("nan")))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
@pytest.mark.parametrize("watch", ["step", "layers"])
def test_a_guard_works_on_a_cuda_device(watch: str) -> None:
    torch.manual_seed(0)
    model = Net(nn.BatchNorm1d(8), nn.Dropout(0.1)).cuda()
    guard = Guard(model, adamw(model), watch=watch)
    for x, y in batches(12):
        guard.step(mean_squares, (x.cuda(), y.cuda()))
    x, y = bad_batch()
    with pytest.raises(NonFiniteError) as caught:
        guard.step(mean_squares, (x.cuda(), y.cuda()))
    assert caught.value.diagnosis.samples == (2,)
    assert guard.history.update_ratios[-1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("watch", ["step", "layers"])
def test_training_on_a_cuda_device_is_bit_for_bit_the_same_with_a_guard(watch: str, fused: bool) -> None:
    def run(with_guard: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Net(nn.LayerNorm(8), nn.GELU()).cuda()
        optimizer = adamw(model, fused=fused)
        guard = Guard(model, optimizer, watch=watch) if with_guard else None
        for x, y in batches(25):
            if guard is not None:
                guard.step(mean_squares, (x.cuda(), y.cuda()))
                continue
            optimizer.zero_grad()
            mean_squares(model, (x.cuda(), y.cuda())).backward()
            optimizer.step()
        return state_of(model, optimizer)

    assert same(run(False), run(True))
