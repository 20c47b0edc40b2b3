"""Causes at the edge of an operation's domain: logarithms, divisions, powers, roots, exponentials, decompositions."""

from __future__ import annotations

import math

from datacheck.torch.diagnosis.causes.evidence import DIVISIONS, LOGS, ROOTS, Cause, Evidence, is_nan, received, show
from datacheck.torch.diagnosis.causes.reductions import explain_overflow

__all__ = ["explain_backward", "explain_custom_backward", "explain_decomposition", "explain_forward"]

_EXPONENTIALS = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "logaddexp", "softplus"})
_BOUNDED_DOMAINS = frozenset(
    {"acos", "asin", "acosh", "atanh", "atan2", "logit", "erfinv", "special_erfinv", "lgamma", "mvlgamma"}
    | {"digamma", "polygamma", "special_zeta", "special_ndtri", "igamma", "igammac", "tan", "angle", "sgn"}
)
_DECOMPOSITIONS = (
    "linalg_",
    "cholesky",
    "svd",
    "symeig",
    "lu_",
    "triangular_solve",
    "inverse",
    "slogdet",
    "logdet",
    "geqrf",
)
_CTC = (
    "a target is too long for its input (one frame per label, and one more between equal labels): no alignment exists, so"
    " the loss is infinite"
)


def explain_custom_backward(evidence: Evidence) -> Cause:
    if not evidence.is_custom_backward:
        return None
    return (
        "bad-custom-backward",
        (
            f"the backward of a custom autograd Function produced {show(evidence.value)} from a finite grad_output"
            f" {evidence.location}, in {evidence.ran}"
        ),
    )


def explain_decomposition(evidence: Evidence) -> Cause:
    family = evidence.op.strip("_")
    if not family.startswith(_DECOMPOSITIONS) or family in ("linalg_vector_norm", "linalg_cross"):
        return None
    reason = "the matrix is singular or nearly singular"
    if evidence.in_backward and any(word in family for word in ("eig", "svd")):
        reason = "its gradient divides by the difference between equal eigenvalues or singular values"
    return "degenerate-decomposition", f"{evidence.op} produced {show(evidence.value)} {evidence.location}: {reason}"


def explain_backward(evidence: Evidence) -> Cause:
    """A derivative that is infinite where the operation itself is finite."""
    if not evidence.in_backward:
        return None
    op, location = evidence.op, evidence.location
    root = _root_exponent(evidence)
    if op in ROOTS or root is not None:
        slope = "1 / (2 * sqrt(0))" if root in (None, 0.5) else f"{root:g} * 0 ** {root - 1:g}"
        return "sqrt-gradient-at-zero", f"{op} is 0 {location}, where its gradient is infinite: {slope}"
    if op in LOGS:
        return "log-of-zero-or-negative", f"the gradient of {op} is 1 / 0 {location}"
    if op in DIVISIONS and evidence.finite_in_float64 is not True:
        return "division-by-zero", f"the gradient of {op} divides by 0 {location}"
    if op in _BOUNDED_DOMAINS or op == "pow":
        return "domain-error", f"{op} is finite at the edge of its domain {location}, but its gradient is not"
    return explain_overflow(evidence)


def _root_exponent(evidence: Evidence) -> float | None:
    """The exponent of a power that is a root: between 0 and 1."""
    return next((exponent for exponent in evidence.scalars if evidence.op == "pow" and 0 < exponent < 1), None)


def explain_forward(evidence: Evidence) -> Cause:
    """An operation that received finite values outside, or at the edge, of its domain."""
    op, given = evidence.op, f"{received(evidence)} {evidence.location}"
    if op in LOGS:
        return "log-of-zero-or-negative", given
    if op in DIVISIONS:
        return _explain_division(evidence, given)
    if op == "pow":
        return _explain_power(evidence, given)
    if op == "sqrt":
        return "domain-error", f"{given}: the square root of a negative number is NaN"
    if op in _BOUNDED_DOMAINS:
        return "domain-error", f"{given}: at or beyond the edge of its domain"
    if op in _EXPONENTIALS:
        return "exp-overflow", f"{given}: the result exceeds the range of {evidence.dtype}"
    if "ctc_loss" in op:
        return "domain-error", _CTC
    if op in ("mul", "add", "sub") and any(math.isinf(number) for number in evidence.scalars):
        return "domain-error", f"{given}: 0 * inf and inf - inf are NaN"
    if op.startswith("weight_norm"):
        return "division-by-zero", f"{op} divides a row of the weight by its norm, which is 0, {evidence.location}"
    if "_norm" in op and is_nan(evidence.value):
        return (
            "division-by-zero",
            f"{op} divides by a variance that is 0 or negative {evidence.location}: its eps is too small",
        )
    return explain_overflow(evidence)


def _explain_division(evidence: Evidence, given: str) -> Cause:
    op = evidence.op
    divisor = evidence.real(0) if op in ("reciprocal", "rsqrt") else evidence.real(2 if op == "addcdiv" else 1)
    if divisor is None and evidence.scalars:
        divisor = evidence.scalars[0]
    if op == "rsqrt" and divisor is not None and divisor < 0:
        return "domain-error", f"{given}: the square root of a negative number is NaN"
    if (divisor is not None and divisor != 0) or evidence.finite_in_float64:
        return explain_overflow(evidence)
    return "division-by-zero", given


def _explain_power(evidence: Evidence, given: str) -> Cause:
    base, exponent = evidence.real(0), evidence.real(1)
    if exponent is None:
        exponent = evidence.scalars[0] if evidence.scalars else None
    if base is None or exponent is None:
        return "domain-error", given
    shown = f"pow received base {show(base)} and exponent {show(exponent)} {evidence.location}"
    if base == 0 and exponent < 0:
        return "division-by-zero", f"{shown}: a negative power of 0 is 1 / 0"
    if base < 0 and exponent != int(exponent):
        return "domain-error", f"{shown}: a fractional power of a negative number is NaN"
    if abs(exponent) <= 4:
        return explain_overflow(evidence)
    return "exp-overflow", f"{shown}: the result exceeds the range of {evidence.dtype}"
