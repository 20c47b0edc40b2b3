"""What is known of the value that went bad first, and how it is worded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datacheck.text import count

LOGS = frozenset({"log", "log2", "log10", "log1p", "xlogy", "xlog1py", "special_xlog1py", "special_entr"})
DIVISIONS = frozenset(
    {"div", "reciprocal", "rsqrt", "remainder", "fmod", "floor_divide", "true_divide", "addcdiv", "divide"}
)
ROOTS = frozenset({"sqrt", "norm", "linalg_vector_norm", "cdist", "cdist_forward", "hypot", "pdist_forward", "std"})
EXTREMES = frozenset({"max", "min", "amax", "amin", "aminmax", "maximum", "minimum", "fmax", "fmin"})
#: Operations that fail where an input is 0.
EDGE_AT_ZERO = LOGS | DIVISIONS | ROOTS | {"pow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of the value that went bad first.

    Attributes:
        op: the operation's family (``log``); in the backward pass the family of the forward operation.
        ran: the family of the operation that produced the value; differs from ``op`` in the backward pass.
        value: the output value.
        inputs: the input values that it was computed from, without gradients; empty where it was not a single value each.
        scalars: the numbers among the arguments.
        index: its index in the output.
        num_bad, num_values: how many values of the output went bad in this operation, of how many.
        dtype: of the output.
        in_backward: whether the operation is a derivative, and not in code of the user's own.
        in_gradient: whether the loss is finite and a gradient is not.
        gradient: the incoming gradient of this value, where it is known.
        masked_by: what made that gradient 0 (``where``), where it is 0.
        joint: it took several intended infinities to make it bad.
        intended: it came from an infinity that was written on purpose.
        num_reduced: how many values were reduced to one, for a reduction.
        finite_in_float32: whether the operation gives a finite value in float32; None where that is not known.
        finite_in_float64: the same for float64: then it overflowed, whatever operation it is.
        lost_epsilon: an epsilon that was to keep the input away from 0, and that its dtype rounds to 0.
        lost_value: the operation whose result underflowed to 0.
        is_custom_backward: whether it happened in the backward of a custom autograd Function.
        is_of_torch: whether torch defines the operation; what other operations do is not known.
        is_returned: the operation writes the value as a constant, for what it received.
        largest_parameter: the name and the largest magnitude of the parameters that were read.
        times_repeated: how often the same line had run before.
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
    masked_by: str | None = None
    joint: bool = False
    intended: bool = False
    num_reduced: int | None = None
    finite_in_float32: bool | None = None
    finite_in_float64: bool | None = None
    lost_epsilon: float | None = None
    lost_value: str | None = None
    is_custom_backward: bool = False
    is_of_torch: bool = True
    is_returned: bool = False
    largest_parameter: tuple[str, float] | None = None
    times_repeated: int = 0

    @property
    def is_half(self) -> bool:
        return self.dtype in ("float16", "bfloat16")

    @property
    def position(self) -> str:
        """The index in the output, after a space; empty where the output is one value."""
        return f" at {list(self.index)}" if self.index else ""

    @property
    def location(self) -> str:
        """The index in the output, and how many values went bad: ``at [3, 17] (1 of 512 values)``."""
        counted = f"{count(self.num_bad)} of {count(self.num_values)} values"
        return f"at {list(self.index)} ({counted})" if self.index else f"({counted})"

    def real(self, number: int) -> float | None:
        """An input as a real number; None where it is unknown or complex."""
        if number >= len(self.inputs):
            return None
        value = self.inputs[number]
        return None if isinstance(value, complex) else value


def show(value: complex | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def received(evidence: Evidence) -> str:
    """``log received 0``: the input values where they are known, else the output value."""
    values = evidence.inputs if len(evidence.inputs) > 1 else (*evidence.inputs, *evidence.scalars[:1])
    if not evidence.inputs and evidence.num_reduced is not None:
        # The plain numbers of a reduction are dimensions and modes.
        values = ()
    shown = " and ".join(show(value) for value in values[:3])
    return f"{evidence.op} received {shown}" if shown else f"{evidence.op} produced {show(evidence.value)}"


def is_nan(value: complex | float) -> bool:
    return math.isnan(value.real) or math.isnan(value.imag)
