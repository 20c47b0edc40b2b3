"""Classifies divergence by its history: the learning rate, the recurrence, or the optimizer's epsilon.

No single operation makes training diverge, so these causes are read from the history that a guard keeps: plain Python
over short lists of numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

from datacheck.torch.diagnosis.diagnosis import Diagnosis
from datacheck.torch.diagnosis.fixes.advice import ADVICE

#: An update this large against the weights it changes is destructive whatever the model.
DESTRUCTIVE_UPDATE = 0.5
#: How far the loss must have climbed from its lowest point to call it a climb.
CLIMB_FACTOR = 3.0
#: In how many steps at least, and in what part of them it must have risen.
CLIMB_STEPS = 3
CLIMB_SHARE = 0.6
#: A gradient norm this many times its median has exploded.
EXPLOSION_FACTOR = 1e3
#: An update this many times its median, under a gradient that is not larger than usual, was made by a denominator.
EPSILON_FACTOR = 100.0


@dataclass(frozen=True, slots=True)
class History:
    """The last steps, oldest first; the last entries belong to the step that failed.

    A value that is unknown is None; a non-finite one is kept as it is. Lists may differ in
    length: they are aligned at their ends, except that ``update_ratios`` (the norm of an update over that of the
    weights) and ``learning_rates`` end with the last update that was made.
    """

    losses: Sequence[float | None] = ()
    gradient_norms: Sequence[float | None] = ()
    update_ratios: Sequence[float | None] = ()
    learning_rates: Sequence[float | None] = ()


def classify_dynamics(history: History) -> Diagnosis | None:
    """The diagnosis that the history shows for a step that went wrong, without an operation; None if it shows none.

    A loss that climbed over steps with growing updates, or one update as large as the weights, is the learning rate.
    A large update under an ordinary gradient is the optimizer's denominator. A norm that explodes within one step is
    the recurrence.
    """
    ratios = _known(history.update_ratios)
    return _from_epsilon(history, ratios) or _learning_rate(history, ratios) or _explosion(history)


def _divergence(cause: str, explanation: str, remedy: str) -> Diagnosis:
    return Diagnosis(code="DC408", phase="optimizer", cause=cause, explanation=explanation, remedy=remedy)


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _from_epsilon(history: History, ratios: list[float]) -> Diagnosis | None:
    norms = _finite(history.gradient_norms)
    if len(ratios) < 3 or len(norms) < 3:
        return None
    before = _finite(ratios[:-1])
    last = ratios[-1]
    if not before:
        return None
    usual, usual_norm = median(before), median(norms[:-1])
    jumped = not math.isfinite(last) or last > max(EPSILON_FACTOR * usual, DESTRUCTIVE_UPDATE)
    if not jumped or norms[-1] > 2 * usual_norm:
        return None
    return _divergence(
        "optimizer-epsilon",
        f"the last update was {last:.3g} of the weights (usually {usual:.3g}) under a gradient norm of {norms[-1]:.3g},"
        f" which is not more than usual ({usual_norm:.3g}): the denominator of the update is near 0",
        ADVICE["optimizer-epsilon"],
    )


def _lower_rate(rate: float | None) -> str:
    """A tenth of a rate, and never more than is usual for any optimizer."""
    return "*= 0.1" if not rate else f"= {min(rate / 10, 0.1):.3g}"


def _learning_rate(history: History, ratios: list[float]) -> Diagnosis | None:
    rate = next((value for value in reversed(_known(history.learning_rates))), None)
    remedy = (
        "for group in optimizer.param_groups:  # from a checkpoint before the climb; and warm up\n"
        f"    group['lr'] {_lower_rate(rate)}\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()"
    )
    shown = "" if rate is None else f" at a learning rate of {rate:.3g}"
    climbed = _climb_of(history)
    growing = _growth(_finite(ratios))
    if climbed is not None:
        lowest, last, num_steps = climbed
        updates = "" if growing is None else f", while updates grew to {_largest(ratios):.3g} of the weights"
        return _divergence(
            "learning-rate-too-high",
            f"the loss climbed from {lowest:.4g} to {last:.4g} over {num_steps} steps{updates}{shown}",
            remedy,
        )
    back = _destructive(ratios)
    if back is not None:
        return _divergence(
            "learning-rate-too-high",
            f"an update changed the weights by {ratios[-back]:.3g} times their own norm{shown}",
            remedy,
        )
    return None


def blamed_update(history: History, verdict: Diagnosis) -> int | None:
    """How many updates ago the one was made that alone speaks for a verdict, 1 for the last; None if several steps do."""
    if verdict.cause == "optimizer-epsilon":
        return 1
    if verdict.cause != "learning-rate-too-high" or _climb_of(history) is not None:
        return None
    return _destructive(_known(history.update_ratios))


def _destructive(ratios: list[float]) -> int | None:
    """How many updates ago the last destructive one was made, among the last five."""
    recent = enumerate(reversed(ratios[-5:]), 1)
    return next((back for back, ratio in recent if math.isfinite(ratio) and ratio > DESTRUCTIVE_UPDATE), None)


def _largest(ratios: list[float]) -> float:
    return max(_finite(ratios)[-5:], default=0.0)


def _climb_of(history: History) -> tuple[float, float, int] | None:
    """The climb of the loss, unless updates were small and no larger than before."""
    climbed, ratios = _climb(_finite(history.losses)), _known(history.update_ratios)
    growing = _growth(_finite(ratios))
    is_driven = growing is None or growing > 1.5 or _largest(ratios) > DESTRUCTIVE_UPDATE / 5
    return climbed if is_driven else None


def _climb(losses: list[float]) -> tuple[float, float, int] | None:
    """The lowest loss, the last one and the steps between, where the loss has climbed ever since the lowest."""
    if len(losses) < CLIMB_STEPS + 1:
        return None
    lowest = min(losses)
    start = len(losses) - 1 - losses[::-1].index(lowest)
    rising = losses[start:]
    num_steps = len(rising) - 1
    if num_steps < CLIMB_STEPS:
        return None
    rises = sum(later > earlier for earlier, later in pairwise(rising))
    spread = max(abs(lowest), 1e-3)
    if rises < CLIMB_SHARE * num_steps or rising[-1] - lowest < (CLIMB_FACTOR - 1) * spread:
        return None
    # A climb that happens all in its last step is a spike, not a trend.
    if rising[-2] - lowest < 0.5 * spread:
        return None
    return lowest, rising[-1], num_steps


def _growth(values: list[float]) -> float | None:
    """How many times larger the last values are than the ones before; None where too few are known."""
    if len(values) < 4:
        return None
    half = len(values) // 2
    before = median(values[:half])
    return max(values[-3:]) / before if before > 0 else None


def _explosion(history: History) -> Diagnosis | None:
    known = _known(history.gradient_norms)
    losses = _known(history.losses)
    if losses and not math.isfinite(losses[-1]) and known and not math.isfinite(known[-1]):
        # Whatever made the loss non-finite made the gradients so.
        known = known[:-1]
    if len(known) < 2:
        return None
    before, last = _finite(known[:-1]), known[-1]
    if not before or not (last > EXPLOSION_FACTOR * median(before) or math.isinf(last)):
        return None
    return _divergence(
        "exploding-gradient",
        f"the gradient norm went from {median(before):.4g} (median of {len(before)} steps) to {last:.4g} in one step,"
        " although the loss had not climbed before",
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # before optimizer.step()\n"
        "# in a recurrence: an orthogonal or small initial weight, a bounded activation, or truncated backpropagation",
    )
