"""What the history of a run adds to the diagnosis of a step: whether the step is an effect of training that diverged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.guard.grad_scaler import LossScaler

#: Causes that are an effect of diverged weights as often as a fault of the operation: the history decides.
SHARED_WITH_DIVERGENCE = frozenset({"exp-overflow", "float16-overflow", "overflow", "parameter-not-finite", "unknown"})

#: Causes that lie in earlier steps, and in no sample of this one.
DIVERGENCE = frozenset({"exploding-gradient", "learning-rate-too-high", "optimizer-epsilon"})


def with_history(found: Diagnosis, verdict: Diagnosis | None) -> Diagnosis:
    if verdict is None or (verdict.cause == "exploding-gradient" and found.phase not in ("backward", "optimizer")):
        # A non-finite loss makes the gradient norm non-finite: that is its effect, not a second fault.
        return found
    if found.cause not in SHARED_WITH_DIVERGENCE:
        return replace(found, explanation=f"{found.explanation}\nBefore that, {verdict.explanation}")
    return replace(
        found,
        code="DC408",
        cause=verdict.cause,
        explanation=f"{verdict.explanation}. Then: {found.explanation}",
        remedy=verdict.remedy,
    )


def with_update(found: Diagnosis, verdict: Diagnosis, is_finite: bool | None) -> Diagnosis:
    """The diagnosis with the update that the verdict blames: its cause if without the update the step is finite."""
    if is_finite:
        known = f"{verdict.explanation}; with the weights from before that update, this step is finite"
        return with_history(found, replace(verdict, explanation=known))
    known = "whether this step is finite with the weights from before that update is not known"
    if is_finite is not None:
        known = "with the weights from before that update, this step is non-finite too"
    return replace(found, explanation=f"{found.explanation}\nBefore that, {verdict.explanation}; {known}")


def explain_with_history(
    explain: Callable[[Diagnosis | None], Diagnosis], verdict: Diagnosis | None, back: int | None
) -> Diagnosis:
    """What ``explain`` makes of the verdict. One that rests on one update is not a cause where nothing tests it."""
    found = explain(verdict if back is None else None)
    if verdict is None or back is None:
        return found
    return replace(found, explanation=f"{found.explanation}. Before that, {verdict.explanation}")


def without_samples(found: Diagnosis) -> Diagnosis:
    """Where the weights have diverged, no sample is to blame, whichever overflowed first."""
    if found.cause not in DIVERGENCE:
        return found
    return replace(found, field=None, samples=(), origins=())


def with_scaler(found: Diagnosis, scaler: LossScaler) -> Diagnosis:
    """Divergence of updates that a GradScaler should have made."""
    scale = scaler.current_scale() if scaler.num_plain_updates else 1.0
    if scale <= 1:
        return found
    times = f"{scaler.num_plain_updates:,} time{'s' if scaler.num_plain_updates > 1 else ''}"
    said = (
        f"optimizer.step() was called {times} without scaler.step(optimizer): unless they are unscaled, gradients are"
        f" {scale:,.0f} times too large"
    )
    fix = "scaler.step(optimizer)  # instead of optimizer.step()\nscaler.update()"
    return replace(
        found, explanation=f"{said}. {found.explanation}", remedy=fix, remedy_verified=False, remedy_check=""
    )
