"""Causes in reductions: nothing to reduce, one value without a variance, and sums beyond the dtype."""

from __future__ import annotations

import math

from datacheck.torch.diagnosis.causes.evidence import DIVISIONS, EXTREMES, Cause, Evidence, received, show

__all__ = ["explain_empty_reduction", "explain_overflow"]

_VARIANCES = frozenset({"var", "std", "var_mean", "std_mean"})
_MEANS = frozenset({"mean", "nll_loss_forward", "nll_loss2d_forward", "median", "nanmedian", "nanmean"})
#: Reductions of groups. An empty one gives 0 / 0, or the infinity that is the identity of min or max.
_GROUPED = frozenset({"segment_reduce", "scatter_reduce", "index_reduce", "embedding_bag"})
#: A line that ran this often before is part of a recurrence.
REPEATED = 3
#: A parameter of this magnitude has been thrown out of its range by earlier updates.
GROWN_PARAMETER = 1e6


def explain_empty_reduction(evidence: Evidence) -> Cause:
    if evidence.op in _VARIANCES and evidence.num_reduced == 1 and not evidence.in_backward:
        return "variance-of-one", f"{evidence.op} of a single value divides 0 by 0 {evidence.location}"
    if evidence.op in _VARIANCES and evidence.finite_in_float64 is False and not evidence.in_backward:
        return "variance-of-one", f"{evidence.op} divides by 0 {evidence.location}: no more values than its correction"
    if evidence.op.startswith("nll_loss"):
        return (
            "empty-reduction",
            "every target is ignored (by ignore_index, or by a class weight of 0), so that the mean is 0 / 0",
        )
    is_group = evidence.op in _GROUPED and not evidence.in_backward and not evidence.finite_in_float64
    if is_group and all(abs(value) < math.inf for value in evidence.inputs):
        return "empty-reduction", f"{evidence.op} of an empty group {evidence.location}"
    if evidence.num_reduced == 0 and evidence.op in _VARIANCES | _MEANS | EXTREMES:
        return "empty-reduction", f"{evidence.op} of an empty tensor{evidence.position}"
    return None


def explain_overflow(evidence: Evidence) -> Cause:
    """Finite values whose sum or product exceeds the dtype."""
    if evidence.finite_in_float64 is False and evidence.num_reduced != 0:
        # Not for want of range.
        return None
    if evidence.num_reduced == 0:
        return "empty-reduction", f"{evidence.op} of an empty tensor{evidence.position}"
    repeated = evidence.times_repeated >= REPEATED
    grown = f"; the same line had run {evidence.times_repeated} times before" if repeated else ""
    # In the backward pass the forward inputs are no reason: the incoming gradient is.
    made = received(evidence)
    if evidence.in_backward:
        by = f", divided by {show(evidence.inputs[-1])}," if evidence.op in DIVISIONS and evidence.inputs else ""
        made = f"the gradient of {evidence.op}{by} became {show(evidence.value)}"
    shown = f"{made} {evidence.location}: the result exceeds the range of {evidence.dtype}{grown}"
    parameter = evidence.largest_parameter
    if parameter is not None and parameter[1] > GROWN_PARAMETER:
        return (
            "learning-rate-too-high",
            f"{shown}; parameter '{parameter[0]}' has grown to {parameter[1]:.3g}, so earlier updates were too large",
        )
    return "exploding-gradient" if evidence.in_backward or repeated else "overflow", shown
