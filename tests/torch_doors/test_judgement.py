"""What a diagnosis says: origins that left torch, terms of the loss, and what half precision lost in a finite step."""

from __future__ import annotations

import importlib.util
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from datacheck.torch import Diagnosis, Guard, NonFiniteError, PrecisionWarning, diagnose  # noqa: E402

pytestmark = pytest.mark.torch


def linear(width: int = 3) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, width)


def source_of(found: Diagnosis | None) -> str:
    assert found is not None
    print(found)
    return found.source or ""


def test_a_value_that_was_read_as_a_number_is_followed_to_its_origin():
    def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        out = model(batch)
        scale = torch.log(out.sum() * 0).item()
        return (out * scale).mean()

    found = diagnose(loss_fn, linear(), torch.randn(4, 3))
    assert "torch.log(out.sum() * 0)" in source_of(found)
    assert found is not None
    assert found.cause == "log-of-zero-or-negative"


def test_a_nan_that_is_written_in_the_program_is_not_taken_for_one_that_was_read():
    def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        out = model(batch)
        print((out.sum() * 0).log().mul(0).item())
        return out.masked_fill(out > 0, float("nan")).mean()

    found = diagnose(loss_fn, linear(), torch.randn(4, 3))
    assert "masked_fill" in source_of(found)


def test_a_buffer_that_the_step_itself_made_non_finite_is_not_said_to_have_been_so_before():
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = linear()
            self.register_buffer("mean", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.mean.numpy()[1] = np.float32("inf") - np.float32("inf")
            return self.layer(x) + self.mean

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = diagnose(lambda m, b: m(b).mean(), Counted(), torch.randn(4, 3))
    assert "numpy()[1] = " in source_of(found)
    assert found is not None
    assert found.cause == "buffer-not-finite"
    assert "became non-finite in the step" in found.explanation
    assert "before the step" not in found.explanation


def test_a_nan_that_becomes_an_index_is_the_cause_of_the_error():
    class Bucketed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            share = x / x.sum(-1, keepdim=True)
            return self.table((share * 9).long())

    found = diagnose(lambda m, b: m(b).mean(), Bucketed(), torch.zeros(4, 3))
    assert "share = x / " in source_of(found)
    assert found is not None
    assert found.cause == "division-by-zero"
    assert "IndexError" in found.explanation


def test_an_index_error_without_a_non_finite_value_is_passed_on():
    table = nn.Embedding(10, 3)
    with pytest.raises(IndexError):
        diagnose(lambda m, b: m(b.long()).mean(), table, torch.tensor([11.0]))


def grouped(values: torch.Tensor, reduce: str) -> torch.Tensor:
    return torch.ones(1).scatter_reduce(0, torch.zeros(len(values), dtype=torch.long), values, reduce)


@pytest.mark.parametrize(
    ("cause", "said", "loss_fn"),
    [
        ("overflow", "exceeds the range", lambda x: x / torch.tensor([1.0, 1.0, 1e-38])),
        ("exploding-gradient", "divided by 1e-30", lambda x: torch.log1p((x[:1] * 1e-12 / x[1:2]).abs())),
        ("overflow", "exceeds the range", lambda x: (x[:1] * 9).expand(200).prod()),
        ("overflow", "exceeds the range", lambda x: grouped((x[:1] * 9).expand(200), "prod")),
        (
            "empty-reduction",
            "of an empty group",
            lambda x: torch.segment_reduce(x[:1], "min", lengths=torch.tensor([1, 0])),
        ),
        ("variance-of-one", "no more values than its correction", lambda x: x.std(0, correction=3)),
    ],
    ids=["quotient", "gradient of a quotient", "product", "product of a group", "empty group", "correction"],
)
def test_overflow_is_told_from_a_division_by_zero_and_from_an_empty_group(cause, said, loss_fn):
    x = torch.tensor([1.0, 1e-30, 9.0], requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = diagnose(lambda: loss_fn(x).sum())
    assert found is not None
    assert found.cause == cause
    assert said in found.explanation


def test_a_line_of_an_installed_library_comes_with_the_line_that_called_it(tmp_path: Path):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    path = folder / "some_layers.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\nclass Log(nn.Module):\n    def forward(self, x):\n        return torch.log(x)\n"
    )
    spec = importlib.util.spec_from_file_location("some_layers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["some_layers"] = module
    spec.loader.exec_module(module)
    found = diagnose(
        lambda m, b: m(b).mean(), nn.Sequential(nn.ReLU(), module.Log()), torch.zeros(2, 2, requires_grad=True)
    )
    assert source_of(found) == "return torch.log(x)"
    assert found is not None
    assert f"called from {__file__}:" in found.explanation


class TestTerms:
    @staticmethod
    def parts(model: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        out = model(batch)
        return F.mse_loss(out, batch), torch.log(out * 0), out.square()

    def test_the_term_of_a_sum_is_named_with_the_values_of_all(self):
        def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
            rec, kl, size = self.parts(model, batch)
            loss = rec + 0.1 * kl.mean()
            loss += 0.01 * size.sum()
            return loss / 4

        found = diagnose(loss_fn, linear(), torch.ones(2, 3))
        assert found is not None
        expected = shown(lambda rec, _, size: (rec, 0.01 * size.sum()), self.parts(linear(), torch.ones(2, 3)))
        assert (
            f"the non-finite term of the loss is 0.1 * kl.mean() = -inf; finite: rec = {expected[0]}, 0.01 * size.sum() ="
            f" {expected[1]}"
        ) in found.explanation

    def test_terms_before_a_mean_are_given_by_their_means(self):
        def loss_fn(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
            _, kl, size = self.parts(model, batch)
            return (size - kl).mean()

        found = diagnose(loss_fn, linear(), torch.ones(2, 3))
        assert found is not None
        assert "the non-finite term of the loss is kl = -inf (mean); finite: size = " in found.explanation

    def test_a_loss_of_one_term_has_none(self):
        found = diagnose(lambda m, b: self.parts(m, b)[1].mean() + 1.0, linear(), torch.ones(2, 3))
        assert found is not None
        assert "term" not in found.explanation


def shown(chosen: Any, parts: tuple[torch.Tensor, ...]) -> list[str]:
    return [f"{float(value.detach()):.6g}" for value in chosen(*parts)]


class RmsNorm(nn.Module):
    def __init__(self, eps: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, dtype=dtype))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * x * torch.rsqrt(variance + self.eps)


def warnings_of(model: nn.Module, batch: torch.Tensor) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert diagnose(lambda m, b: m(b).float().square().mean(), model, batch) is None
    return [str(entry.message) for entry in caught if entry.category is PrecisionWarning]


def test_an_infinity_that_a_layer_divides_away_is_warned_of():
    (message,) = warnings_of(RmsNorm(1e-3, torch.half), torch.full((2, 4), 300.0).half())
    assert "pow overflows float16 to infinity, and rsqrt turns that into 0, where float32 gives 0.00333333" in message
    assert "test_judgement.py:" in message


def test_an_epsilon_that_rounds_to_zero_is_warned_of():
    (message,) = warnings_of(RmsNorm(1e-8, torch.half), torch.ones(2, 4).half())
    assert "eps 1e-08 rounds to 0 in float16" in message


@pytest.mark.parametrize("eps", [1e-3, 1e-5])
@pytest.mark.parametrize(("dtype", "value"), [(torch.half, 100.0), (torch.bfloat16, 300.0), (torch.float32, 300.0)])
def test_nothing_is_warned_of_where_nothing_is_lost(eps, dtype, value):
    assert not warnings_of(RmsNorm(eps, dtype), torch.full((2, 4), value).to(dtype))


def test_a_mask_of_minus_infinity_is_not_an_overflow():
    scores = torch.zeros(2, 2, dtype=torch.half, requires_grad=True)

    def step() -> torch.Tensor:
        masked = scores + torch.tensor([[0.0, -math.inf], [0.0, 0.0]]).half()
        return (1 / (1 + torch.exp(-masked).detach())).float().mean() + masked.softmax(-1).float()[:, 0].mean()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert diagnose(step) is None


class UnitGradients(torch.optim.Optimizer):
    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                direction = parameter.grad / parameter.grad.norm()
                parameter.add_(direction, alpha=-group["lr"])


def stopped_by(guard: Guard, loss_fn: Any) -> Diagnosis:
    with pytest.raises(NonFiniteError) as caught:
        guard.step(loss_fn, torch.ones(2, 3))
    print(caught.value.diagnosis)
    return caught.value.diagnosis


def test_an_optimizer_of_ones_own_is_diagnosed_by_the_line_of_its_update():
    model = linear()
    found = stopped_by(Guard(model, UnitGradients(model.parameters(), 0.1)), lambda m, b: (m(b) * 0).sum())
    assert (found.phase, found.cause) == ("optimizer", "division-by-zero")
    assert found.source == "direction = parameter.grad / parameter.grad.norm()"
    assert "div received 0 and 0" in found.explanation


def test_a_schedule_that_gives_an_infinite_rate_is_named_and_the_optimizer_kept():
    def inverse_root(step: int) -> float:
        return math.inf if step == 0 else step**-0.5

    model = linear()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, inverse_root)
    found = stopped_by(Guard(model, optimizer), lambda m, b: m(b).square().mean())
    assert found.cause == "learning-rate-too-high"
    assert "LambdaLR of inverse_root" in found.explanation
    assert f"gave at its step {schedule.last_epoch}" in found.explanation
    assert "group['lr'] = 0.001" in found.remedy
    assert "optim." not in found.remedy


def test_updates_that_leave_out_the_scaler_are_said():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    scaler = torch.amp.GradScaler("cpu")

    def train() -> None:
        for _ in range(20):
            optimizer.zero_grad()
            loss = F.mse_loss(model(torch.randn(8, 3)), torch.randn(8, 1))
            scaler.scale(loss).backward()
            optimizer.step()

    with Guard(model, optimizer), pytest.raises(NonFiniteError) as caught:
        train()
    assert "without scaler.step(optimizer)" in caught.value.diagnosis.explanation
    assert caught.value.diagnosis.remedy.startswith("scaler.step(optimizer)")
