"""A constant that a function of torch writes is what the function returns; the program's own is a constant of the program."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import distributions, nn  # noqa: E402

from datacheck.torch import diagnose  # noqa: E402

pytestmark = pytest.mark.torch

#: What computes a loss from ``x``, which is -1 and 1; the cause, and the operation.
RETURNED: dict[str, tuple[Any, str, str]] = {
    "logdet": (lambda x: torch.logdet(torch.diag(x)), "log-of-zero-or-negative", "logdet"),
    "logdet of a batch": (
        lambda x: torch.stack([torch.eye(2), torch.diag(x)]).logdet().sum(),
        "log-of-zero-or-negative",
        "logdet",
    ),
    "cond": (lambda x: torch.linalg.cond(torch.stack([x, x]), p=1), "degenerate-decomposition", "linalg_cond"),
    "support": (
        lambda x: distributions.HalfNormal(1.0, validate_args=False).log_prob(x).sum(),
        "domain-error",
        "HalfNormal.log_prob",
    ),
    "support, and a weight of 0": (
        lambda x: (distributions.HalfCauchy(1.0, validate_args=False).log_prob(x) * (x > 0)).sum(),
        "domain-error",
        "HalfCauchy.log_prob",
    ),
    "moment": (lambda x: distributions.StudentT(x.abs()).variance.sum(), "domain-error", "StudentT.variance"),
    "moment as it is": (lambda x: (distributions.Cauchy(x, 1.0).mean * x).sum(), "domain-error", "Cauchy.mean"),
    "divergence": (
        lambda x: distributions.kl_divergence(
            distributions.Categorical(logits=x), distributions.Categorical(probs=torch.tensor([0.0, 1.0]))
        ),
        "domain-error",
        "kl_divergence",
    ),
}

#: What the program gives itself, whichever function takes it.
GIVEN: dict[str, Any] = {
    "where": lambda x: torch.where(x > 0, x, -math.inf).sum(),
    "item": lambda x: x.clone().index_fill(0, torch.tensor([0]), math.nan).sum(),
    "module": lambda x: nn.Threshold(0.5, -math.inf)(x).sum(),
    "padding": lambda x: F.pad(x, (1, 1), value=math.inf).sum(),
    "list": lambda x: (x * torch.tensor([math.nan, 1.0])).sum(),
    "beyond float32": lambda x: (x * torch.tensor([1e39, 1.0])).sum(),
}


@pytest.mark.parametrize("name", RETURNED)
def test_a_constant_that_a_function_writes_is_what_it_returned(name: str) -> None:
    loss, cause, op = RETURNED[name]
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    found = diagnose(lambda: loss(x))
    assert found is not None
    assert (found.cause, found.op) == (cause, op)
    assert found.filename == __file__
    assert loss.__code__.co_firstlineno <= (found.lineno or 0) <= loss.__code__.co_firstlineno + 4
    assert "constant" not in found.explanation


@pytest.mark.parametrize("name", GIVEN)
def test_a_constant_that_the_program_gives_is_its_own(name: str) -> None:
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    found = diagnose(lambda: GIVEN[name](x))
    assert found is not None
    assert found.cause == "constant-not-finite"


def test_the_samples_are_those_for_which_the_constant_was_returned() -> None:
    scale = nn.Parameter(torch.ones(()))
    batch = torch.eye(2).repeat(4, 1, 1)
    batch[2, 0, 0] = -1.0
    found = diagnose(lambda _, given: (torch.logdet(given) * scale).mean(), None, batch)
    assert found is not None
    assert (found.cause, found.samples) == ("log-of-zero-or-negative", (2,))
    assert "slogdet" in found.remedy
    assert not found.remedy_verified
