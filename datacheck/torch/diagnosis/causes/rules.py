"""The cause behind the evidence: rules, tried in the order in which they decide."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datacheck.torch.diagnosis.causes.evidence import (
    DIVISIONS,
    EDGE_AT_ZERO,
    EXTREMES,
    LOGS,
    ROOTS,
    Evidence,
    is_nan,
    received,
    show,
)

#: In explanations, what reached the code as it was: a value of a mask or a fill.
INTENDED_INFINITY = "an intended infinity"

#: A cause identifier and its explanation; None where a rule does not apply.
Cause = tuple[str, str] | None

_ATTENTIONS = ("scaled_dot_product", "native_multi_head_attention", "flash_attention", "efficient_attention")
_SOFTMAXES = frozenset(
    {"softmax", "log_softmax", "logsumexp", "safe_softmax", "logcumsumexp", "masked_softmax", "softmax_backward_data"}
)
#: What makes a gradient 0 without being a mask: clamps, and a factor that happens to be 0.
_BY_CHANCE = frozenset(
    {"clamp", "relu", "threshold", "clamp_min", "clamp_max", "hardtanh", "maximum", "minimum", "a factor of 0"}
)
_EXPONENTIALS = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "logaddexp", "softplus", "linalg_matrix_exp"})
_BOUNDED_DOMAINS = frozenset(
    {"acos", "asin", "acosh", "atanh", "atan2", "logit", "erfinv", "special_erfinv", "lgamma", "mvlgamma"}
    | {"digamma", "polygamma", "special_zeta", "special_ndtri", "igamma", "igammac", "tan", "angle", "sgn"}
)
_DECOMPOSITIONS = tuple(
    "linalg_ cholesky svd symeig lu_ triangular_solve inverse slogdet logdet geqrf".split()  # noqa: SIM905
)
_NO_DECOMPOSITIONS = frozenset({"linalg_vector_norm", "linalg_cross", "linalg_matrix_exp"})
_VARIANCES = frozenset({"var", "std", "var_mean", "std_mean"})
_MEANS = frozenset({"mean", "nll_loss_forward", "nll_loss2d_forward", "median", "nanmedian", "nanmean"})
#: Reductions of groups. An empty one gives 0 / 0, or the infinity that is the identity of min or max.
_GROUPED = frozenset({"segment_reduce", "scatter_reduce", "index_reduce", "embedding_bag"})
#: Operations that received values at or beyond the edge of their domain: the cause, and why.
_EDGES = (
    (LOGS, "log-of-zero-or-negative", ""),
    (frozenset({"sqrt"}), "domain-error", "the square root of a negative number is NaN"),
    (_BOUNDED_DOMAINS, "domain-error", "at or beyond the edge of its domain"),
    (_EXPONENTIALS, "exp-overflow", "the result exceeds the range of {dtype}"),
)
#: A line that ran this often before is part of a recurrence.
REPEATED = 3
#: A parameter this large has diverged in earlier updates.
GROWN_PARAMETER = 1e6


@dataclass(frozen=True, slots=True)
class Classification:
    """A cause (one of :data:`datacheck.torch.diagnosis.diagnosis.CAUSES`), and the evidence for it."""

    cause: str
    explanation: str


def classify(evidence: Evidence) -> Classification:
    """The cause behind the evidence; ``unknown`` where no rule applies: the operation and the line are still right."""
    found = next((found for rule in _RULES if (found := rule(evidence)) is not None), None)
    return Classification(*(found or _at("unknown", evidence, f"{evidence.op} produced {show(evidence.value)}")))


def _at(cause: str, evidence: Evidence, what: str, reason: str = "") -> tuple[str, str]:
    """A cause, and what happened at the value's location, with a reason."""
    return cause, f"{what} {evidence.location}{f': {reason}' if reason else ''}"


def _custom_backward(evidence: Evidence) -> Cause:
    if not evidence.is_custom_backward:
        return None
    what = f"the backward of a custom autograd Function produced {show(evidence.value)} from a finite grad_output"
    return "bad-custom-backward", f"{what} {evidence.location}, in {evidence.ran}"


def _intended(evidence: Evidence) -> Cause:
    """What went wrong with an infinity that was written on purpose."""
    op, value = evidence.op, show(evidence.value)
    if not (evidence.intended or evidence.joint):
        return None
    if evidence.in_gradient and evidence.gradient == 0 and not evidence.joint:
        return _masked_branch(evidence)
    if evidence.joint and op in EXTREMES:
        return _at("empty-reduction", evidence, f"{op} reduced over a fully masked slice", f"the result is {value}")
    if _normalises_a_masked_slice(evidence):
        what = f"every value that {op} normalises over is -inf"
        return _at("fully-masked-softmax", evidence, what, f"the slice is fully masked, and the result is {value}")
    if is_nan(evidence.value) and not any(math.isnan(number) for number in evidence.scalars):
        what = f"{op} turned {INTENDED_INFINITY} into NaN"
        return _at("domain-error", evidence, what, "0 * inf, or inf - inf")
    if op in ("lift_fresh", "scalar_tensor"):
        return _at("constant-not-finite", evidence, f"a constant of the program is {value}")
    return _at("constant-not-finite", evidence, f"the {value} that {op} writes as a fill value reaches the loss")


def _normalises_a_masked_slice(evidence: Evidence) -> bool:
    if evidence.joint or evidence.op in _SOFTMAXES or evidence.op.startswith(_ATTENTIONS):
        return True
    # A softmax by hand subtracts the maximum, -inf, from -inf.
    subtracts = evidence.op in ("sub", "rsub") and bool(evidence.inputs)
    return subtracts and all(value == -math.inf for value in evidence.inputs)


def _decomposition(evidence: Evidence) -> Cause:
    family = evidence.op.strip("_")
    if not family.startswith(_DECOMPOSITIONS) or family in _NO_DECOMPOSITIONS:
        return None
    if evidence.is_returned and family == "logdet":
        return _at("log-of-zero-or-negative", evidence, "logdet received a matrix with a negative determinant")
    reason = "the matrix is singular or nearly singular"
    if evidence.in_backward and any(word in family for word in ("eig", "svd")):
        reason = "its gradient divides by the difference between equal eigenvalues or singular values"
    return _at("degenerate-decomposition", evidence, f"{evidence.op} produced {show(evidence.value)}", reason)


def _masked_branch(evidence: Evidence) -> Cause:
    """A value that is masked out of the loss, but not out of the backward pass."""
    in_backward = evidence.in_gradient or evidence.in_backward
    if not in_backward or evidence.gradient != 0 or evidence.masked_by in _BY_CHANCE:
        return None
    by = f" by {evidence.masked_by}" if evidence.masked_by else ""
    masked = f"the output of {evidence.op} is masked out{by} {evidence.location}"
    return "masked-branch-gradient", f"{masked}, but its gradient is still computed: 0 * inf is NaN"


def _half_precision(evidence: Evidence) -> Cause:
    """What float16 or bfloat16 did to a value that float32 holds."""
    dtype, given = evidence.dtype, received(evidence)
    if not evidence.is_half:
        return None
    if evidence.lost_epsilon is not None and evidence.op in EDGE_AT_ZERO:
        reason = f"the epsilon {evidence.lost_epsilon:g} rounds to 0 in {dtype}"
        return _at("float16-underflow", evidence, given, reason)
    if evidence.lost_value is not None:
        reason = f"the result of {evidence.lost_value} underflows to 0 in {dtype}, but not in float32"
        return _at("float16-underflow", evidence, given, reason)
    if evidence.finite_in_float32 and not evidence.joint:
        largest = "65,504" if dtype == "float16" else "3.39e38"
        reason = f"the result exceeds {largest}, the largest {dtype} value; in float32 it is finite"
        return _at("float16-overflow", evidence, given, reason)
    return None


def _empty_reduction(evidence: Evidence) -> Cause:
    op, in_forward = evidence.op, not evidence.in_backward
    if op in _VARIANCES and evidence.num_reduced == 1 and in_forward:
        return _at("variance-of-one", evidence, f"{op} of a single value divides 0 by 0")
    if op in _VARIANCES and evidence.finite_in_float64 is False and in_forward:
        return _at("variance-of-one", evidence, f"{op} divides by 0", "no more values than its correction")
    if op.startswith("nll_loss"):
        ignored = "every target is ignored (by ignore_index, or by a class weight of 0), so that the mean is 0 / 0"
        return "empty-reduction", ignored
    is_group = op in _GROUPED and in_forward and not evidence.finite_in_float64
    if is_group and all(abs(value) < math.inf for value in evidence.inputs):
        return _at("empty-reduction", evidence, f"{op} of an empty group")
    if evidence.num_reduced == 0 and op in _VARIANCES | _MEANS | EXTREMES:
        return "empty-reduction", f"{op} of an empty tensor{evidence.position}"
    return None


def _backward(evidence: Evidence) -> Cause:
    """A derivative that is infinite where the operation itself is finite."""
    if not evidence.in_backward:
        return None
    op = evidence.op
    # A power between 0 and 1 is a root.
    root = next((exponent for exponent in evidence.scalars if op == "pow" and 0 < exponent < 1), None)
    if op in ROOTS or root is not None:
        slope = "1 / (2 * sqrt(0))" if root in (None, 0.5) else f"{root:g} * 0 ** {root - 1:g}"
        explanation = f"{op} is 0 {evidence.location}, where its gradient is infinite: {slope}"
        return "sqrt-gradient-at-zero", explanation
    if op in LOGS:
        return _at("log-of-zero-or-negative", evidence, f"the gradient of {op} is 1 / 0")
    if op in DIVISIONS and evidence.finite_in_float64 is not True:
        return _at("division-by-zero", evidence, f"the gradient of {op} divides by 0")
    if op in _BOUNDED_DOMAINS or op == "pow":
        explanation = f"{op} is finite at the edge of its domain {evidence.location}, but its gradient is not"
        return "domain-error", explanation
    return _overflow(evidence)


def _forward(evidence: Evidence) -> Cause:
    """An operation that received finite values outside, or at the edge, of its domain."""
    op, given = evidence.op, received(evidence)
    for family, cause, reason in _EDGES:
        if op in family:
            return _at(cause, evidence, given, reason.format(dtype=evidence.dtype))
    if op in DIVISIONS:
        return _division(evidence, given)
    if op == "pow":
        return _power(evidence, given)
    if "ctc_loss" in op:
        return "domain-error", (
            "a target is too long for its input (one frame per label, and one more between equal labels): no alignment"
            " exists, so the loss is infinite"
        )
    if op in ("mul", "add", "sub") and any(math.isinf(number) for number in evidence.scalars):
        reason = "the inf is a constant of the program; 0 * inf and inf - inf are NaN"
        return _at("constant-not-finite", evidence, given, reason)
    if op.startswith("weight_norm"):
        explanation = f"{op} divides a row of the weight by its norm, which is 0, {evidence.location}"
        return "division-by-zero", explanation
    if evidence.is_returned:
        what = f"{op} returned {show(evidence.value)}"
        return _at("domain-error", evidence, what, "it is defined so for what it received")
    if "_norm" in op and is_nan(evidence.value):
        what = f"{op} divides by a variance that is 0 or negative"
        return _at("division-by-zero", evidence, what, "its eps is too small")
    # The domain of an operation of another library is unknown, but an overflow can be verified.
    return _overflow(evidence) if evidence.is_of_torch or evidence.finite_in_float64 else None


def _division(evidence: Evidence, given: str) -> Cause:
    op = evidence.op
    divisor = evidence.real(0) if op in ("reciprocal", "rsqrt") else evidence.real(2 if op == "addcdiv" else 1)
    if divisor is None and evidence.scalars:
        divisor = evidence.scalars[0]
    if op == "rsqrt" and divisor is not None and divisor < 0:
        return _at("domain-error", evidence, given, "the square root of a negative number is NaN")
    if (divisor is not None and divisor != 0) or evidence.finite_in_float64:
        return _overflow(evidence)
    return _at("division-by-zero", evidence, given)


def _power(evidence: Evidence, given: str) -> Cause:
    base, exponent = evidence.real(0), evidence.real(1)
    if exponent is None:
        exponent = evidence.scalars[0] if evidence.scalars else None
    if base is None or exponent is None:
        return _at("domain-error", evidence, given)
    what = f"pow received base {show(base)} and exponent {show(exponent)}"
    if base == 0 and exponent < 0:
        return _at("division-by-zero", evidence, what, "a negative power of 0 is 1 / 0")
    if base < 0 and not exponent.is_integer():
        return _at("domain-error", evidence, what, "a fractional power of a negative number is NaN")
    if abs(exponent) <= 4:
        return _overflow(evidence)
    return _at("exp-overflow", evidence, what, f"the result exceeds the range of {evidence.dtype}")


def _overflow(evidence: Evidence) -> Cause:
    """Finite values whose sum or product exceeds the dtype."""
    if evidence.num_reduced == 0:
        return "empty-reduction", f"{evidence.op} of an empty tensor{evidence.position}"
    if evidence.finite_in_float64 is False:
        # It did not overflow: float64 gives no finite value either.
        return None
    is_repeated = evidence.times_repeated >= REPEATED
    grown = f"; the same line had run {evidence.times_repeated} times before" if is_repeated else ""
    # In the backward pass the forward inputs are no reason: the incoming gradient is.
    what = received(evidence)
    if evidence.in_backward:
        by = f", divided by {show(evidence.inputs[-1])}," if evidence.op in DIVISIONS and evidence.inputs else ""
        what = f"the gradient of {evidence.op}{by} became {show(evidence.value)}"
    reason = f"the result exceeds the range of {evidence.dtype}{grown}"
    parameter = evidence.largest_parameter
    if parameter is not None and parameter[1] > GROWN_PARAMETER:
        name, size = parameter
        reason += f"; parameter '{name}' has grown to {size:.3g}, so earlier updates were too large"
        return _at("learning-rate-too-high", evidence, what, reason)
    return _at("exploding-gradient" if evidence.in_backward or is_repeated else "overflow", evidence, what, reason)


_RULES = (
    _custom_backward,
    _intended,
    _decomposition,
    _masked_branch,
    _half_precision,
    _empty_reduction,
    _backward,
    _forward,
)
