"""What is found before the first step, and what is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from datacheck.torch import Guard  # noqa: E402

pytestmark = pytest.mark.torch


def classify(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return F.cross_entropy(model(batch["x"]), batch["labels"])


def batch(labels: Any = (0, 1, 2, 0)) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"x": torch.randn(4, 5), "labels": torch.tensor(labels)}


def guard_of(model: nn.Module | None = None, **settings: Any) -> Guard:
    torch.manual_seed(0)
    model = nn.Linear(5, 3) if model is None else model
    return Guard(model, torch.optim.AdamW(model.parameters(), **{"lr": 1e-3, **settings}))


def found(report: Any) -> list[tuple[str, str | None, str, bool]]:
    print(report)
    return [(entry.code, entry.rule, entry.detail, entry.is_error) for entry in report.findings]


def test_a_sound_run_has_no_findings():
    assert not found(guard_of().preflight(batch(), classify))


@pytest.mark.parametrize(
    ("settings", "rule", "said", "is_error"),
    [
        ({"lr": float("inf")}, "learning-rate", "the learning rate is inf", True),
        ({"lr": 30.0}, "learning-rate", "the learning rate is 30", False),
        ({"eps": 0.0}, "epsilon", "eps is 0", False),
    ],
)
def test_settings_of_the_optimizer(settings, rule, said, is_error):
    guard = guard_of(**settings)
    ((code, given, detail, error),) = found(guard.preflight())
    assert (code, given, error) == ("DC457", rule, is_error)
    assert said in detail


def test_settings_are_checked_at_the_first_step_without_being_asked():
    guard = guard_of(eps=0.0)
    guard.step(classify, batch())
    guard.step(classify, batch())
    assert [finding.rule for finding in guard.report().findings] == ["epsilon"]


def test_an_epsilon_that_is_zero_in_half_precision():
    ((_, rule, detail, _),) = found(guard_of(nn.Linear(5, 3).half()).preflight())
    assert rule == "epsilon"
    assert "eps=1e-08 is 0 in float16" in detail


def test_weights_buffers_and_fields_that_are_not_finite():
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        model[0].weight[1, 2] = torch.nan
        model[1].running_var[0] = torch.inf
    given = batch()
    given["x"][3, 0] = torch.nan
    report = guard_of(model).preflight(given)
    assert [(f.code, f.field, f.num_violations) for f in report.findings] == [
        ("DC404", "0.weight", 1),
        ("DC405", "1.running_var", 1),
        ("DC407", "x", 1),
    ]
    assert not report.ok


def test_frozen_parameters_in_the_optimizer_are_a_note():
    model = nn.Linear(5, 3)
    model.bias.requires_grad_(False)
    report = guard_of(model).preflight(batch(), classify)
    ((_, rule, detail, _),) = found(report)
    assert rule == "frozen-parameters"
    assert "'bias'" in detail
    assert report.ok


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ((0, 1, 3, 0), "labels 3 are outside the 3 classes"),
        ((0, -1, 7, 0), "labels -1, 7 are outside the 3 classes"),
        ((-100,) * 4, "all 4 labels are -100, which is ignored"),
    ],
)
def test_labels(labels, said):
    findings = found(guard_of().preflight(batch(labels), classify))
    assert findings[0][:2] == ("DC457", "labels")
    assert said in findings[0][2]
    report = guard_of().preflight(batch(labels), classify)
    assert "test_preflight.py:" in str(report)


def test_indices_outside_a_table():
    model = nn.Sequential(nn.Embedding(10, 5), nn.Linear(5, 3))
    given = {"x": torch.tensor([1, 2, 10, 3]), "labels": torch.tensor([0, 1, 2, 0])}
    ((_, rule, detail, error),) = found(guard_of(model).preflight(given, classify))
    assert (rule, error) == ("indices", True)
    assert "indices go from 1 to 10, and the table has 10 rows" in detail


@pytest.mark.parametrize("flat", [False, True])
def test_targets_that_are_too_long_for_ctc(flat):
    torch.manual_seed(0)
    targets = torch.tensor([[1, 2, 0], [1, 1, 0], [2, 2, 2]])
    lengths = torch.tensor([2, 2, 3])
    given = torch.cat([row[:length] for row, length in zip(targets, lengths, strict=True)]) if flat else targets

    def loss_fn(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return F.ctc_loss(model(x).log_softmax(-1), given, torch.tensor([2, 2, 5]), lengths)

    findings = found(guard_of().preflight(torch.randn(5, 3, 5), loss_fn))
    assert findings[0][:3] == (
        "DC457",
        "lengths",
        "sample 1: fewer frames than labels, so no alignment exists and the loss is infinite",
    )


def test_targets_of_a_binary_cross_entropy():
    def loss_fn(model: nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(model(given["x"])[:, 0], given["labels"].float())

    ((_, rule, detail, _),) = found(guard_of().preflight(batch((-1, 1, 1, -1)), loss_fn))
    assert rule == "labels"
    assert "from -1 to 1, not from 0 to 1" in detail


@pytest.mark.parametrize(
    ("dtype", "rule"),
    [(None, "scaler-without-float16"), (torch.bfloat16, "scaler-without-float16"), (torch.half, None)],
)
def test_a_scaler_without_anything_to_scale(dtype, rule):
    def loss_fn(model: nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            return classify(model, given)

    model = nn.Linear(5, 3)
    guard = Guard(model, torch.optim.SGD(model.parameters(), 0.1), scaler=torch.amp.GradScaler("cpu"))
    assert [entry[1] for entry in found(guard.preflight(batch(), loss_fn))] == ([] if rule is None else [rule])


def test_a_step_that_would_fail_comes_with_its_diagnosis():
    report = guard_of().preflight(batch(), lambda m, b: torch.log(m(b["x"]).relu()).mean())
    ((code, cause, _, error),) = found(report)
    assert (code, cause, error) == ("DC401", "log-of-zero-or-negative", True)


def test_what_half_precision_loses_is_a_warning():
    def loss_fn(model: nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
        h = (model(given["x"]) * 300).half()
        return (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-3)).float().square().mean()

    guard = guard_of(nn.Linear(5, 3))
    findings = found(guard.preflight({"x": torch.full((2, 5), 9.0)}, loss_fn))
    assert [entry[1] for entry in findings] == ["half-precision"]
    assert "pow overflows float16" in findings[0][2]


def test_training_is_the_same_bit_for_bit_after_a_preflight():
    def train(check: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        guard = Guard(model, torch.optim.AdamW(model.parameters()))
        given = batch()
        torch.manual_seed(1)
        if check:
            assert guard.preflight(given, classify).ok
        for _ in range(3):
            guard.step(classify, given)
        assert guard.report().num_rows == 3
        return copy.deepcopy(model.state_dict())

    plain, checked = train(False), train(True)
    assert all(torch.equal(plain[name], checked[name]) for name in plain)


def test_an_error_of_the_loss_function_is_passed_on():
    with pytest.raises(KeyError):
        guard_of().preflight(batch(), lambda m, b: b["missing"])
