"""Causes in masking: intended infinities that became NaN, and gradients of values that are masked out."""

from __future__ import annotations

import math

from datacheck.torch.diagnosis.causes.evidence import EXTREMES, Cause, Evidence, is_nan, show

__all__ = ["explain_intended", "explain_masked_branch"]

_SOFTMAXES = frozenset(
    {"softmax", "log_softmax", "logsumexp", "safe_softmax", "logcumsumexp", "masked_softmax", "softmax_backward_data"}
)
_ATTENTIONS = ("scaled_dot_product", "native_multi_head_attention", "flash_attention", "efficient_attention")
#: What makes a gradient 0 without being a mask: clamps, and a factor that happens to be 0.
_BY_CHANCE = frozenset(
    {"clamp", "relu", "threshold", "clamp_min", "clamp_max", "hardtanh", "maximum", "minimum", "a factor of 0"}
)


def explain_intended(evidence: Evidence) -> Cause:
    """What went wrong with an infinity that was written on purpose."""
    if not (evidence.intended or evidence.joint):
        return None
    if evidence.in_gradient and evidence.gradient == 0 and not evidence.joint:
        return explain_masked_branch(evidence)
    if evidence.joint and evidence.op in EXTREMES:
        return (
            "empty-reduction",
            f"{evidence.op} reduced over a fully masked slice {evidence.location}: the result is {show(evidence.value)}",
        )
    if _normalises_a_masked_slice(evidence):
        return (
            "fully-masked-softmax",
            (
                f"every value that {evidence.op} normalises over is -inf {evidence.location}: the slice is fully masked, and"
                f" the result is {show(evidence.value)}"
            ),
        )
    if is_nan(evidence.value) and not any(math.isnan(number) for number in evidence.scalars):
        return (
            "domain-error",
            f"{evidence.op} turned an intended infinity into NaN {evidence.location}: 0 * inf, or inf - inf",
        )
    if evidence.op in ("lift_fresh", "scalar_tensor"):
        return "constant-not-finite", f"a constant of the program is {show(evidence.value)} {evidence.location}"
    return (
        "constant-not-finite",
        f"the {show(evidence.value)} that {evidence.op} writes as a fill value reaches the loss {evidence.location}",
    )


def _normalises_a_masked_slice(evidence: Evidence) -> bool:
    if evidence.joint or evidence.op in _SOFTMAXES or evidence.op.startswith(_ATTENTIONS):
        return True
    # A softmax by hand subtracts the maximum, -inf, from -inf.
    subtracts = evidence.op in ("sub", "rsub") and bool(evidence.inputs)
    return subtracts and all(value == -math.inf for value in evidence.inputs)


def explain_masked_branch(evidence: Evidence) -> Cause:
    """A value that is masked out of the loss, but not out of the backward pass."""
    in_backward = evidence.in_gradient or evidence.in_backward
    if not in_backward or evidence.gradient != 0 or evidence.masked_by in _BY_CHANCE:
        return None
    by = f" by {evidence.masked_by}" if evidence.masked_by else ""
    return (
        "masked-branch-gradient",
        (
            f"the output of {evidence.op} is masked out{by} {evidence.location}, but its gradient is still computed: 0 * inf is"
            " NaN"
        ),
    )
