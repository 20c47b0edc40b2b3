"""Each suggested fix, pasted into the diagnosed program, repairs it."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402
from torch.autograd.gradcheck import GradcheckError  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from datacheck.torch import Guard, diagnose  # noqa: E402
from datacheck.torch.diagnosis.fixes import suggest_fix  # noqa: E402

pytestmark = pytest.mark.torch

INF = math.inf


def leaf(*values: Any, dtype: Any = None) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype or torch.float32, requires_grad=True)


def first_row() -> torch.Tensor:
    return torch.tensor([[True, True], [False, False]])


#: The cause, the expression, and the names that it reads.
EXPRESSIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "log": ("log-of-zero-or-negative", "torch.log(x)", {"x": leaf(0.0, 1.0)}),
    "log of a softmax": ("log-of-zero-or-negative", "x.softmax(-1).log()", {"x": leaf(0.0, 300.0)}),
    "log1p": ("log-of-zero-or-negative", "torch.log1p(x)", {"x": leaf(-1.0, 1.0)}),
    "xlogy": ("log-of-zero-or-negative", "torch.xlogy(x, p)", {"x": leaf(1.0, 1.0), "p": leaf(0.0, 1.0)}),
    "div": ("division-by-zero", "a / b", {"a": leaf(1.0, 0.0), "b": leaf(0.0, 0.0)}),
    "rsqrt": ("division-by-zero", "x.rsqrt()", {"x": leaf(0.0, 4.0)}),
    "negative power": ("division-by-zero", "x**exponent", {"x": leaf(0.0, 2.0), "exponent": -1.0}),
    "fractional power": ("domain-error", "x**exponent", {"x": leaf(-1.0, 2.0), "exponent": 0.5}),
    "sqrt": ("domain-error", "x.sqrt()", {"x": leaf(-1.0, 2.0)}),
    "acos": ("domain-error", "x.acos()", {"x": leaf(1.5, 0.0)}),
    "acos at the edge": ("domain-error", "x.acos()", {"x": leaf(1.0, 0.0)}),
    "asin": ("domain-error", "x.asin()", {"x": leaf(-1.0, 0.0)}),
    "acosh": ("domain-error", "x.acosh()", {"x": leaf(0.5, 2.0)}),
    "atanh": ("domain-error", "x.atanh()", {"x": leaf(1.0, 0.0)}),
    "logit": ("domain-error", "torch.logit(p)", {"p": leaf(0.0, 0.5)}),
    "erfinv": ("domain-error", "torch.erfinv(x)", {"x": leaf(1.0, 0.0)}),
    "lgamma": ("domain-error", "torch.lgamma(x)", {"x": leaf(0.0, 2.0)}),
    "digamma": ("domain-error", "torch.digamma(x)", {"x": leaf(0.0, 2.0)}),
    "another domain": (
        "domain-error",
        "operation(x)",
        {"x": leaf(1.0, 0.5), "operation": torch.special.ndtri, "low": 0.0, "high": 1.0},
    ),
    "sqrt at 0": ("sqrt-gradient-at-zero", "x.sqrt()", {"x": leaf(0.0, 2.0)}),
    "half a power": ("sqrt-gradient-at-zero", "x**exponent", {"x": leaf(0.0, 2.0), "exponent": 0.5}),
    "quarter of a power": ("sqrt-gradient-at-zero", "x**exponent", {"x": leaf(0.0, 2.0), "exponent": 0.25}),
    "sigmoid by hand": ("exp-overflow", "1 / (1 + torch.exp(-x))", {"x": leaf(-200.0, 1.0)}),
    "exp": ("exp-overflow", "x.exp()", {"x": leaf(200.0, 1.0)}),
    "half overflow": (
        "float16-overflow",
        "operation(x)",
        {"x": leaf(300.0, 1.0, dtype=torch.half), "operation": torch.square},
    ),
    "half epsilon": (
        "float16-underflow",
        "operation(x + 1e-8)",
        {"x": leaf(0.0, 1.0, dtype=torch.half), "operation": torch.log},
    ),
    "softmax": (
        "fully-masked-softmax",
        "scores.masked_fill(~keep, -torch.inf).softmax(-1)",
        {"scores": leaf([1.0, 2.0], [3.0, 4.0]), "keep": first_row()},
    ),
    "mean of a selection": (
        "empty-reduction",
        "x[keep].mean()",
        {"x": leaf(1.0, 2.0), "keep": torch.tensor([False, False])},
    ),
    "amax": (
        "empty-reduction",
        "x.masked_fill(~keep, -torch.inf).amax(-1)",
        {"x": leaf([1.0, 2.0], [3.0, 4.0]), "keep": first_row()},
    ),
    "min": (
        "empty-reduction",
        "x.masked_fill(~keep, torch.inf).min(-1).values",
        {"x": leaf([1.0, 2.0], [3.0, 4.0]), "keep": first_row()},
    ),
    "segments": (
        "empty-reduction",
        "torch.segment_reduce(x, 'mean', lengths=lengths)",
        {"x": leaf([1.0, 2.0], [3.0, 4.0]), "lengths": torch.tensor([2, 0])},
    ),
    "variance": ("variance-of-one", "x.var(dim)", {"x": leaf([1.0, 2.0]), "dim": 0}),
    "deviation": ("variance-of-one", "x.std(dim)", {"x": leaf([1.0, 2.0]), "dim": 0}),
    "where": (
        "masked-branch-gradient",
        "torch.where(keep, operation(x), 0.0)",
        {"x": leaf(0.0, 2.0), "keep": torch.tensor([False, True]), "operation": torch.sqrt},
    ),
}


def run(code: str, names: dict[str, Any]) -> Any:
    given = {"torch": torch, "F": F, "nn": nn, "eps": 1e-6, **names}
    exec(code, given)
    return given["y"].float().sum()


@pytest.mark.filterwarnings("ignore:(var|std).*degrees of freedom")
@pytest.mark.parametrize(("cause", "broken", "names"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_pasted_in_the_place_of_the_expression_it_cures(cause, broken, names):
    found = diagnose(lambda: run(f"y = {broken}", names))
    assert found is not None
    assert found.cause == cause
    if names.get("exponent") == 0.25:
        assert "0.25 * 0 ** -0.75" in found.explanation
    # What only makes the input safe is pasted before the expression.
    after = "" if "y = " in found.remedy else f"y = {broken}"
    assert diagnose(lambda: run(f"{found.remedy}\n{after}", names)) is None


def test_log_softmax_of_a_masked_row():
    scores, keep, target = leaf([1.0, 2.0], [3.0, 4.0]), first_row(), torch.tensor([0, 0])
    found = diagnose(lambda: F.nll_loss(scores.masked_fill(~keep, -INF).log_softmax(-1), target))
    assert found is not None
    use = f"{found.remedy}\ny = F.nll_loss(y, target)"
    assert diagnose(lambda: run(use, {"scores": scores, "keep": keep, "target": target})) is None


def test_angle_of_the_origin():
    y, x = leaf(0.0, 1.0), leaf(0.0, 1.0)
    cured = diagnose(lambda: run(suggest_fix("domain-error", "atan2"), {"y": y, "x": x}))
    assert cured is None


def test_cross_entropy_without_a_target():
    names = {"logits": leaf([1.0, 2.0], [3.0, 4.0]), "target": torch.tensor([-100, -100]), "ignore_index": -100}
    found = diagnose(lambda: F.cross_entropy(names["logits"], names["target"]))
    assert found is not None
    assert diagnose(lambda: run(found.remedy + "\ny = loss", names)) is None


def test_a_target_that_is_too_long_for_its_input():
    names = {
        "log_probs": leaf(*[[[0.0, 0.0, 0.0]]] * 3),
        "targets": torch.tensor([[1, 1]]),
        "input_lengths": torch.tensor([2]),
        "target_lengths": torch.tensor([2]),
    }
    arguments = "log_probs, targets, input_lengths, target_lengths"
    found = diagnose(lambda: run(f"y = F.ctc_loss({arguments})", names))
    assert found is not None
    assert "between equal labels" in found.explanation
    assert diagnose(lambda: run(found.remedy + "\ny = loss", names)) is None


@pytest.mark.parametrize(
    "name", ["mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"]
)
def test_a_loss_over_an_empty_selection(name):
    weight = leaf(0.2, 0.3)
    keep = torch.tensor([False, False])

    def step(code: str) -> torch.Tensor:
        return run(f"{code}\ny = loss", {"prediction": weight[keep], "target": torch.ones(2)[keep]})

    found = diagnose(lambda: step(f"loss = F.{name}(prediction, target)"))
    assert found is not None
    assert found.cause == "empty-reduction"
    assert "of an empty tensor" in found.explanation
    assert "1 of 1" not in found.explanation
    assert diagnose(lambda: step(found.remedy)) is None


def test_attention_of_a_layer_to_a_sample_that_is_all_padding():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    batch = {"x": torch.randn(3, 5, 8), "padding": torch.zeros(3, 5, dtype=torch.bool)}
    batch["padding"][1] = True

    def loss_fn(model: nn.Module, batch: dict[str, torch.Tensor], fix: str = "") -> torch.Tensor:
        given = {"key_padding_mask": batch["padding"]}
        exec(fix, given)
        x = batch["x"]
        loss: torch.Tensor = model(x, x, x, key_padding_mask=given["key_padding_mask"])[0].square().mean()
        return loss

    found = diagnose(loss_fn, layer, batch)
    assert found is not None
    assert found.cause == "fully-masked-softmax"
    assert diagnose(lambda m, b: loss_fn(m, b, found.remedy), layer, batch) is None


def test_values_that_grow_at_each_pass_of_a_line():
    weight = torch.full((4, 4), 3.0, requires_grad=True)

    def step(fix: str = "") -> torch.Tensor:
        h = torch.ones(2, 4)
        for _ in range(100):
            given = {"h": h @ weight, "weight": weight, "torch": torch, "F": F}
            exec(fix, given)
            h = given["h"]
        return h.square().mean()

    found = diagnose(step)
    assert found is not None
    assert found.cause == "exploding-gradient"
    cure = [line for line in found.remedy.splitlines() if line.startswith("h = ")]
    assert diagnose(lambda: step(*cure)) is None


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (nn.LayerNorm(4, eps=0.0), {"normalized_shape": 4}),
        (nn.GroupNorm(2, 4, eps=0.0), {"num_groups": 2, "num_channels": 4}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_that_divides_by_a_deviation_of_zero(layer, names):
    x = torch.ones(3, 4)
    weight = torch.ones(4, requires_grad=True)
    found = diagnose(lambda: layer(x * weight).sum())
    assert found is not None
    assert found.cause == "division-by-zero"
    given = {"nn": nn, **names}
    exec(found.remedy, given)
    assert diagnose(lambda: given["layer"](x * weight).sum()) is None


def test_batch_norm_of_a_negative_variance():
    layer = nn.BatchNorm1d(4).eval()
    layer.running_var.fill_(-1.0)
    found = diagnose(lambda m, x: m(x).sum(), layer, torch.ones(3, 4))
    assert found is not None
    assert found.cause == "division-by-zero"
    exec(found.remedy, {"layer": layer})
    assert diagnose(lambda m, x: m(x).sum(), layer, torch.ones(3, 4)) is None


def test_weight_norm_of_a_row_of_zeros():
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    layer = nn.utils.parametrizations.weight_norm(layer)
    found = diagnose(lambda m, x: m(x).sum(), layer, torch.ones(4, 3))
    assert found is not None
    assert "divides a row of the weight by its norm, which is 0" in found.explanation
    exec(found.remedy, {"nn": nn, "layer": layer})
    assert diagnose(lambda m, x: m(x).sum(), layer, torch.ones(4, 3)) is None


def test_buffer_of_a_standardiser():
    class Standardise(nn.Module):
        def __init__(self, data: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("mean", data.mean(0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - self.mean

    data = torch.randn(9, 2)
    data[4, 1] = math.nan
    model = nn.Sequential(Standardise(data), nn.Linear(2, 1))
    names = {"torch": torch, "data": data, "model": model, "last_good_checkpoint": model.state_dict()}
    found = diagnose(lambda m, x: m(x).sum(), model, torch.randn(4, 2))
    assert found is not None
    assert "nan at [1]" in found.explanation
    assert "running" not in found.remedy
    exec(found.remedy, names)
    assert torch.isfinite(Standardise(names["data"]).mean).all()


def test_degenerate_decomposition():
    a = torch.eye(3).requires_grad_()
    use = "y = torch.linalg.eigh(a)[1].pow(3)"
    found = diagnose(lambda: run(use, {"a": a}))
    assert found is not None
    assert diagnose(lambda: run(f"{found.remedy}\n{use}", {"a": a})) is None


def test_overflow():
    x = leaf(1e30, 1.0)
    found = diagnose(lambda: (x * x).sum())
    assert found is not None
    assert found.cause == "overflow"
    assert diagnose(lambda: run(found.remedy + "\ny = x * x", {"x": x})) is None


def test_infinity_that_was_masked_in_reaches_the_loss():
    scores, keep = leaf([1.0, 2.0], [3.0, 4.0]), torch.tensor([True, False])

    def per_item() -> torch.Tensor:
        logits = scores.masked_fill(torch.tensor([[False, False], [False, True]]), -INF)
        return F.cross_entropy(logits, torch.tensor([0, 1]), reduction="none")

    found = diagnose(lambda: per_item().mean())
    assert found is not None
    assert found.cause == "constant-not-finite"

    def cured() -> torch.Tensor:
        given = {"torch": torch, "keep": keep, "loss_per_item": per_item()}
        exec(found.remedy, given)
        return given["loss"]

    assert torch.isfinite(cured())


def test_bad_custom_backward_is_found_by_the_check_in_the_suggested_fix():
    class MyFunction(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return gradient * x.square() * 2 / x

    x = leaf(0.0, 1.0)
    found = diagnose(lambda: MyFunction.apply(x).sum())
    assert found is not None
    assert found.cause == "bad-custom-backward"
    with pytest.raises(GradcheckError):
        exec(found.remedy, {"torch": torch, "MyFunction": MyFunction, "x": x.detach()})


def test_weights_and_buffers_that_are_not_finite():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    good = {name: value.clone() for name, value in model.state_dict().items()}
    names = {"model": model, "module": model[1], "last_good_checkpoint": good, "Guard": Guard}
    names["optimizer"] = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = torch.randn(4, 2)
    for cause, spoiled in (("parameter-not-finite", model[0].weight), ("buffer-not-finite", model[1].running_mean)):
        with torch.no_grad():
            spoiled[0] = math.nan
        found = diagnose(lambda m, x: m(x).sum(), model, batch)
        assert found is not None
        assert found.cause == cause
        exec(found.remedy, names)
        assert diagnose(lambda m, x: m(x).sum(), model, batch) is None


def test_input_that_is_not_finite():
    x = torch.randn(200, 2)
    x[3, 1] = math.nan
    dataset, model = TensorDataset(x), nn.Linear(2, 1)
    found = diagnose(lambda m, b: m(b).sum(), model, x)
    assert found is not None
    given: dict[str, Any] = {"DataLoader": DataLoader, "dataset": dataset, "batch_size": 100}
    exec(found.remedy, given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batches = list(given["loader"])
    assert len(batches) == 2
    assert all(torch.isfinite(batch).all() for (batch,) in batches)


def test_an_optimizer_with_an_epsilon_survives_gradients_of_zero():
    model = nn.Linear(2, 1)
    names: dict[str, Any] = {"torch": torch, "model": model, "lr": 0.1}
    exec(suggest_fix("optimizer-epsilon", ""), names)
    model(torch.zeros(4, 2)).square().sum().backward()
    names["optimizer"].step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("cause", ["learning-rate-too-high", "exploding-gradient"])
def test_a_smaller_step(cause):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    (model(torch.ones(4, 2)).sum() * 1e6).backward()
    exec(suggest_fix(cause, ""), {"torch": torch, "model": model, "optimizer": optimizer})
    optimizer.step()
    moved = [(after - old).norm() for after, old in zip(model.parameters(), before, strict=True)]
    assert max(moved) <= 1.0
