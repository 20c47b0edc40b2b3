"""From evidence to cause, explanation and remedy: plain rules over plain values, without torch.

The microscope gathers the evidence: which operation made the bad value, from what. This file says what that means.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from datacheck.text import count
from datacheck.torch.diagnosis.fixes import remedy_for

__all__ = ["EDGE_AT_ZERO", "Evidence", "Verdict", "judge"]

_LOGS = frozenset({"log", "log2", "log10", "log1p", "xlogy", "xlog1py", "special_xlog1py", "special_entr"})
_EXPONENTIALS = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "logaddexp", "softplus"})
_DIVISIONS = frozenset(
    {"div", "reciprocal", "rsqrt", "remainder", "fmod", "floor_divide", "true_divide", "addcdiv", "divide"}
)
_DOMAINS = frozenset(
    {
        "acos",
        "asin",
        "acosh",
        "atanh",
        "atan2",
        "logit",
        "erfinv",
        "special_erfinv",
        "lgamma",
        "mvlgamma",
        "digamma",
        "polygamma",
        "special_zeta",
        "special_ndtri",
        "igamma",
        "igammac",
        "tan",
        "angle",
        "sgn",
    }
)
_SOFTMAXES = frozenset(
    {"softmax", "log_softmax", "logsumexp", "safe_softmax", "logcumsumexp", "masked_softmax", "softmax_backward_data"}
)
_ATTENTIONS = ("scaled_dot_product", "native_multi_head_attention", "flash_attention", "efficient_attention")
_VARIANCES = frozenset({"var", "std", "var_mean", "std_mean"})
_MEANS = frozenset({"mean", "nll_loss_forward", "nll_loss2d_forward", "median", "nanmedian", "nanmean"})
#: Reductions of groups, which may be empty: then the result is 0 / 0, or the infinity that everything is smaller than.
_GROUPED = frozenset({"segment_reduce", "scatter_reduce", "index_reduce", "embedding_bag"})
_EXTREMES = frozenset({"max", "min", "amax", "amin", "aminmax", "maximum", "minimum", "fmax", "fmin"})
_ROOTS = frozenset({"sqrt", "norm", "linalg_vector_norm", "cdist", "cdist_forward", "hypot", "pdist_forward", "std"})
#: Operations that fail where an input is 0.
EDGE_AT_ZERO = _LOGS | _DIVISIONS | _ROOTS | {"pow"}
#: A line that ran this often before is part of a recurrence.
REPEATED = 3
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of the value that went bad first.

    Attributes:
        op: the operation's family (``log``); of a backward fault that of the forward operation.
        ran: the family of the operation that made the value; differs from ``op`` in the backward pass.
        value: what came out.
        inputs: what went in at that place, gradients left out; empty where no single value did.
        scalars: the plain numbers among the arguments.
        index: where in the output.
        num_bad, num_values: how many values of the output went bad there, and how many it has.
        dtype: of the output.
        in_backward: whether it happened in a derivative, not in code of the user's own.
        in_gradient: whether the loss is finite and a gradient is not.
        gradient: the incoming gradient at that place, where it is known.
        discarded_by: what made that gradient 0 (``where``), where it is 0.
        joint: several infinities that were meant were needed to make it bad.
        meant: the infinity that it came from was written on purpose.
        num_reduced: how many values were reduced to one, where the operation reduces.
        finite_in_float32: whether the operation gives a finite value there in float32.
        lost_epsilon: a number that was to keep the input from 0, and that its dtype rounds to 0.
        lost_value: the operation whose result its dtype rounded to 0.
        is_custom_backward: whether it happened in the backward of the user's own autograd Function.
        largest_parameter: the largest magnitude among the parameters that went in, and its name.
        times_repeated: how often the same line had run before on the way.
    """

    op: str
    ran: str
    value: complex | float
    inputs: tuple[complex | float, ...] = ()
    scalars: tuple[float, ...] = ()
    index: tuple[int, ...] = ()
    num_bad: int = 1
    num_values: int = 1
    dtype: str = "float32"
    in_backward: bool = False
    in_gradient: bool = False
    gradient: complex | float | None = None
    discarded_by: str | None = None
    joint: bool = False
    meant: bool = False
    num_reduced: int | None = None
    finite_in_float32: bool | None = None
    lost_epsilon: float | None = None
    lost_value: str | None = None
    is_custom_backward: bool = False
    largest_parameter: tuple[str, float] | None = None
    times_repeated: int = 0

    @property
    def is_half(self) -> bool:
        return self.dtype in ("float16", "bfloat16")

    @property
    def position(self) -> str:
        """Where in the output, with a space before it; empty where the output is one value."""
        return f" at {list(self.index)}" if self.index else ""

    @property
    def place(self) -> str:
        counted = f"{count(self.num_bad)} of {count(self.num_values)} values"
        return f"at {list(self.index)} ({counted})" if self.index else f"({counted})"

    def real(self, number: int) -> float | None:
        """An input as a real number; None where it is not known or complex."""
        if number >= len(self.inputs):
            return None
        value = self.inputs[number]
        return None if isinstance(value, complex) else value


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cause (one of :data:`datacheck.torch.diagnosis.diagnosis.CAUSES`), why it is that, and what to do."""

    cause: str
    explanation: str
    remedy: str


def judge(evidence: Evidence) -> Verdict:
    """The cause behind the evidence. ``unknown`` where no rule fits: the operation and the line are still right."""
    for rule in (_custom, _meant, _decomposition, _masked_branch, _half, _empty, _in_backward, _in_forward):
        found = rule(evidence)
        if found is not None:
            cause, explanation = found
            grows_forward = cause == "exploding-gradient" and not evidence.in_backward
            return Verdict(cause, explanation, remedy_for(cause, "forward" if grows_forward else evidence.op))
    return Verdict(
        "unknown", f"{evidence.op} made {_show(evidence.value)} {evidence.place}", remedy_for("unknown", evidence.op)
    )


_Found = tuple[str, str] | None


def _show(value: complex | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _received(evidence: Evidence) -> str:
    """``log received 0.0``, with the values that went in where they are known."""
    values = evidence.inputs if len(evidence.inputs) > 1 else (*evidence.inputs, *evidence.scalars[:1])
    if not evidence.inputs and evidence.num_reduced is not None:
        # The plain numbers of a reduction are dimensions and modes.
        values = ()
    shown = " and ".join(_show(value) for value in values[:3])
    return f"{evidence.op} received {shown}" if shown else f"{evidence.op} made {_show(evidence.value)}"


def _custom(evidence: Evidence) -> _Found:
    if not evidence.is_custom_backward:
        return None
    return (
        "bad-custom-backward",
        (
            f"the backward of a custom autograd Function made {_show(evidence.value)} {evidence.place} out of finite gradients"
            f" ({evidence.ran})"
        ),
    )


def _meant(evidence: Evidence) -> _Found:
    if not (evidence.meant or evidence.joint):
        return None
    if evidence.in_gradient and evidence.gradient == 0 and not evidence.joint:
        return _masked_branch(evidence)
    if evidence.joint and evidence.op in _EXTREMES:
        return (
            "empty-reduction",
            (
                f"{evidence.op} had nothing but masked values to choose from {evidence.place}: the result is"
                f" {_show(evidence.value)}"
            ),
        )
    is_attention = evidence.op in _SOFTMAXES or evidence.op.startswith(_ATTENTIONS)
    subtracts = evidence.op in ("sub", "rsub") and all(value == -math.inf for value in evidence.inputs)
    if is_attention or evidence.joint or (subtracts and evidence.inputs):
        return (
            "fully-masked-softmax",
            (
                f"every value that {evidence.op} normalises over is -inf {evidence.place}: nothing is left unmasked there, and"
                f" the result is {_show(evidence.value)}"
            ),
        )
    if _is_nan(evidence.value) and not any(math.isnan(number) for number in evidence.scalars):
        return (
            "domain-error",
            (
                f"{evidence.op} turned an infinity that was written on purpose into NaN {evidence.place}: 0 times infinity, or"
                " infinity minus infinity"
            ),
        )
    if evidence.op in ("lift_fresh", "scalar_tensor"):
        return "constant-not-finite", f"a tensor that the program makes is {_show(evidence.value)} {evidence.place}"
    return (
        "constant-not-finite",
        f"the {_show(evidence.value)} that {evidence.op} writes on purpose reaches the loss {evidence.place}",
    )


def _masked_branch(evidence: Evidence) -> _Found:
    if not (evidence.in_gradient or evidence.in_backward) or evidence.gradient != 0 or evidence.discarded_by in _CHANCE:
        return None
    by = f" by {evidence.discarded_by}" if evidence.discarded_by else ""
    return (
        "masked-branch-gradient",
        (
            f"the value of {evidence.op} is discarded{by} {evidence.place}, but its gradient is computed: 0 times"
            f" {_show(math.inf)} is NaN"
        ),
    )


_CLAMPS = frozenset({"clamp", "relu", "threshold", "clamp_min", "clamp_max", "hardtanh", "maximum", "minimum"})
#: What makes a gradient 0 without being meant as a mask.
_CHANCE = _CLAMPS | {"a factor of 0"}


def _half(evidence: Evidence) -> _Found:
    if not evidence.is_half:
        return None
    if evidence.lost_epsilon is not None and evidence.op in EDGE_AT_ZERO:
        return (
            "float16-underflow",
            f"{_received(evidence)} {evidence.place}: the epsilon {evidence.lost_epsilon:g} is 0 in {evidence.dtype}",
        )
    if evidence.lost_value is not None:
        return (
            "float16-underflow",
            (
                f"{_received(evidence)} {evidence.place}: the result of {evidence.lost_value} is too small for {evidence.dtype}"
                " and became 0; in float32 it is not"
            ),
        )
    if evidence.finite_in_float32 and not evidence.joint:
        largest = "65,504" if evidence.dtype == "float16" else "3.39e38"
        return (
            "float16-overflow",
            (
                f"{_received(evidence)} {evidence.place}, and the result is beyond {evidence.dtype}'s largest value, {largest};"
                " in float32 it is finite"
            ),
        )
    return None


def _empty(evidence: Evidence) -> _Found:
    if evidence.op in _VARIANCES and evidence.num_reduced is not None:
        if evidence.num_reduced == 1 and not evidence.in_backward:
            return "variance-of-one", f"{evidence.op} over a single value divides 0 by 0 {evidence.place}"
        if evidence.num_reduced == 0:
            return "empty-reduction", f"{evidence.op} over no values at all{evidence.position}"
    if evidence.op.startswith("nll_loss"):
        return "empty-reduction", "every target is ignored (ignore_index, or a weight of 0): the mean is over nothing"
    if evidence.op in _GROUPED and all(abs(value) < math.inf for value in evidence.inputs) and not evidence.in_backward:
        return "empty-reduction", f"{evidence.op} over a group without values {evidence.place}"
    if evidence.num_reduced == 0 and evidence.op in _MEANS | _EXTREMES:
        return "empty-reduction", f"{evidence.op} over no values at all{evidence.position}"
    return None


def _decomposition(evidence: Evidence) -> _Found:
    family = evidence.op.strip("_")
    if not family.startswith(_DECOMPOSITIONS) or family in ("linalg_vector_norm", "linalg_cross"):
        return None
    spectral = any(word in family for word in ("eig", "svd"))
    what = "the matrix is singular, or nearly so"
    if evidence.in_backward and spectral:
        what = "its gradient divides by the difference of equal eigenvalues"
    return "degenerate-decomposition", f"{evidence.op} made {_show(evidence.value)} {evidence.place}: {what}"


def _in_backward(evidence: Evidence) -> _Found:
    if not evidence.in_backward:
        return None
    op = evidence.op
    root = _root_exponent(evidence)
    if root is not None and root != 0.5:
        return (
            "sqrt-gradient-at-zero",
            f"{op} is 0 {evidence.place}, where its gradient is infinite: {root:g} * 0 ** {root - 1:g}",
        )
    if op in _ROOTS or root is not None:
        return (
            "sqrt-gradient-at-zero",
            f"{op} is 0 {evidence.place}, where its gradient is infinite: 1 / (2 * sqrt(0))",
        )
    if op in _LOGS:
        return "log-of-zero-or-negative", f"the gradient of {op} is 1 / 0 {evidence.place}"
    if op in _DIVISIONS:
        return "division-by-zero", f"the gradient of {op} divides by 0 {evidence.place}"
    if op in _DOMAINS or op == "pow":
        return "domain-error", f"{op} is finite at the edge of its domain, its gradient is not {evidence.place}"
    return _overflow(evidence)


def _root_exponent(evidence: Evidence) -> float | None:
    """The exponent of a power that is a root: between 0 and 1."""
    return next((exponent for exponent in evidence.scalars if evidence.op == "pow" and 0 < exponent < 1), None)


def _in_forward(evidence: Evidence) -> _Found:
    op = evidence.op
    if op in _LOGS:
        return "log-of-zero-or-negative", f"{_received(evidence)} {evidence.place}"
    if op in _DIVISIONS:
        return _division(evidence)
    if op == "pow":
        return _power(evidence)
    if op == "sqrt":
        return "domain-error", f"{_received(evidence)} {evidence.place}: the root of a negative number is NaN"
    if op in _DOMAINS:
        return "domain-error", f"{_received(evidence)} {evidence.place}, at or beyond the edge of its domain"
    if op in _EXPONENTIALS:
        return "exp-overflow", f"{_received(evidence)} {evidence.place}: the result is beyond {evidence.dtype}"
    if "ctc_loss" in op:
        return (
            "domain-error",
            (
                "a target needs more frames than its input has (one for each label, and one between equal labels), so that no"
                " alignment exists and the loss is infinite"
            ),
        )
    if op in ("mul", "add", "sub") and any(math.isinf(number) for number in evidence.scalars):
        return (
            "domain-error",
            f"{_received(evidence)} {evidence.place}: 0 times infinity, or infinity minus infinity, is NaN",
        )
    if op.startswith("weight_norm"):
        return "division-by-zero", f"{op} divides a row of the weight by its length, which is 0, {evidence.place}"
    if "_norm" in op and _is_nan(evidence.value):
        return (
            "division-by-zero",
            f"{op} divides by a variance that is 0 or negative {evidence.place}: its eps is too small",
        )
    return _overflow(evidence)


def _division(evidence: Evidence) -> _Found:
    op = evidence.op
    divisor = evidence.real(0) if op in ("reciprocal", "rsqrt") else evidence.real(2 if op == "addcdiv" else 1)
    if divisor is None and evidence.scalars:
        divisor = evidence.scalars[0]
    if op == "rsqrt" and divisor is not None and divisor < 0:
        return "domain-error", f"{_received(evidence)} {evidence.place}: the root of a negative number is NaN"
    if divisor is not None and divisor != 0:
        return _overflow(evidence)
    return "division-by-zero", f"{_received(evidence)} {evidence.place}"


def _power(evidence: Evidence) -> _Found:
    base, exponent = evidence.real(0), evidence.real(1)
    if exponent is None:
        exponent = evidence.scalars[0] if evidence.scalars else None
    if base is None or exponent is None:
        return "domain-error", f"{_received(evidence)} {evidence.place}"
    shown = f"pow received {_show(base)} and the exponent {_show(exponent)} {evidence.place}"
    if base == 0 and exponent < 0:
        return "division-by-zero", f"{shown}: a negative power of 0 is 1 / 0"
    if base < 0 and exponent != int(exponent):
        return "domain-error", f"{shown}: a fractional power of a negative number is NaN"
    if abs(exponent) <= 4:
        return _overflow(evidence)
    return "exp-overflow", f"{shown}: the result is beyond {evidence.dtype}"


def _overflow(evidence: Evidence) -> _Found:
    """Finite values whose sum or product is beyond the dtype."""
    if evidence.num_reduced == 0:
        return "empty-reduction", f"{evidence.op} over no values at all{evidence.position}"
    parameter = evidence.largest_parameter
    grown = (
        "" if evidence.times_repeated < REPEATED else f"; the same line had run {evidence.times_repeated} times before"
    )
    made = _received(evidence)
    if evidence.in_backward:
        # What went in forward is no reason: the gradient that came in is.
        made = f"the gradient of {evidence.op} became {_show(evidence.value)}"
    shown = f"{made} {evidence.place}: the result is beyond {evidence.dtype}{grown}"
    if parameter is not None and parameter[1] > 1e6:
        return (
            "learning-rate-too-high",
            f"{shown}; the parameter '{parameter[0]}' has grown to {parameter[1]:.3g}: earlier updates were too large",
        )
    if evidence.in_backward or evidence.times_repeated >= REPEATED:
        return "exploding-gradient", shown
    return "overflow", shown


def _is_nan(value: complex | float) -> bool:
    return value != value
