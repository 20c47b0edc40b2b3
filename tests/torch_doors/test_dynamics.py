from __future__ import annotations

import math
import random

import pytest

from datacheck.torch.diagnosis.dynamics import History, classify_dynamics

NAN, INF = math.nan, math.inf


def healthy(steps: int = 60, seed: int = 0) -> tuple[list[float], list[float], list[float], list[float]]:
    """Losses that fall with noise, norms around 1, updates around a thousandth, a constant rate."""
    generator = random.Random(seed)
    losses = [2.3 * math.exp(-step / 40) + generator.gauss(0, 0.05) for step in range(steps)]
    norms = [abs(generator.gauss(1, 0.2)) for _ in range(steps)]
    ratios = [abs(generator.gauss(1e-3, 2e-4)) for _ in range(steps)]
    return losses, norms, ratios, [1e-3] * steps


def cause_of(*lists: list[float]) -> str | None:
    verdict = classify_dynamics(History(*lists))
    return None if verdict is None else verdict.cause


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_run_whose_last_step_is_nan_has_no_verdict(seed):
    losses, norms, ratios, rates = healthy(seed=seed)
    assert cause_of([*losses, NAN], norms, ratios, rates) is None
    assert cause_of([*losses, 0.5], [*norms, NAN], ratios, rates) is None


def test_a_climb_with_growing_updates_is_the_learning_rate():
    losses, norms, ratios, rates = healthy()
    losses += [1.0, 2.0, 4.0, 9.0, 30.0, 200.0, NAN]
    norms += [2.0, 4.0, 9.0, 20.0, 80.0, 900.0]
    ratios += [0.01, 0.03, 0.08, 0.2, 0.6, 3.0]
    verdict = classify_dynamics(History(losses, norms, ratios, [*rates, *[1e-1] * 6]))
    assert verdict is not None
    assert verdict.cause == "learning-rate-too-high"
    assert "climbed from" in verdict.explanation
    assert "0.1" in verdict.explanation
    assert "group['lr'] = 0.01" in verdict.remedy


def test_a_divergence_from_the_first_step_is_the_learning_rate():
    assert cause_of([2.3, 40.0, 9e5, 1e14, INF], [3.0, 200.0, 1e8, 1e16], [0.4, 2.0, 30.0, 100.0], [10.0] * 4) == (
        "learning-rate-too-high"
    )


def test_one_update_larger_than_the_weights_is_the_learning_rate():
    assert cause_of([2.3, NAN], [3.0], [8.0], [100.0]) == "learning-rate-too-high"


@pytest.mark.parametrize("loss", [NAN, INF])
def test_a_norm_that_is_infinite_with_its_loss_is_an_effect(loss):
    losses, norms, ratios, rates = healthy()
    assert cause_of([*losses, loss], [*norms, INF], ratios, rates) is None


@pytest.mark.parametrize("last", [1e9, INF])
def test_a_norm_that_explodes_in_one_step_is_the_recurrence(last):
    losses, norms, ratios, rates = healthy()
    assert cause_of([*losses, 1.1], [*norms, last], ratios, rates) == "exploding-gradient"


@pytest.mark.parametrize("last", [5.0, NAN, INF])
def test_a_large_update_under_an_ordinary_gradient_is_the_epsilon(last):
    losses, norms, ratios, rates = healthy()
    assert cause_of(losses, norms, [*ratios[:-1], last], rates) == "optimizer-epsilon"


def test_a_loss_spike_is_not_a_climb():
    losses, norms, ratios, rates = healthy()
    assert cause_of([*losses, 400.0], norms, ratios, rates) is None


@pytest.mark.parametrize("history", [History(), History([NAN]), History([None, None], [None], [None], [None])])
def test_an_empty_history_has_no_verdict(history):
    assert classify_dynamics(history) is None


def test_unknown_and_nonfinite_values_are_ignored():
    losses, norms, ratios, rates = healthy()
    losses[3:6] = [None, NAN, INF]
    norms[5] = ratios[7] = None
    assert cause_of([*losses, 1.1], [*norms, 1e9], ratios, rates) == "exploding-gradient"


def test_a_verdict_becomes_a_diagnosis():
    losses, norms, ratios, rates = healthy()
    verdict = classify_dynamics(History([*losses, 1.1], [*norms, 1e9], ratios, rates))
    assert verdict is not None
    diagnosis = verdict.at_step(60)
    assert (diagnosis.code, diagnosis.phase, diagnosis.step) == ("DC408", "optimizer", 60)
    assert "clip_grad_norm_" in diagnosis.remedy
