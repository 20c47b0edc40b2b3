"""Where a bad value came from, and whether the program intended it: the one place that decides this.

An additive mask of -inf is sound; the softmax over a row of only -inf is not. So an infinity that was written
on purpose is never the root cause by itself: what turned it into NaN is.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

import torch

from datacheck.torch.values import values_of

if TYPE_CHECKING:
    from collections.abc import Sequence


_LOGS = frozenset({"log", "log_", "log2", "log10", "_foreach_log"})


class Origin(Enum):
    """Where a bad value came from."""

    #: An operation computed it from finite values, or it was in a parameter, a buffer or the batch.
    COMPUTED = "computed"
    #: The program wrote it as a number or as a constant tensor: ``masked_fill(~keep, -inf)``.
    LITERAL = "literal"
    #: It is in a tensor that holds only 0 and -inf (or 1 and -inf).
    MASK = "mask"
    #: It is the logarithm of 0, which is one way to write a mask and as often a mistake.
    LOG_OF_ZERO = "log of zero"


#: The origins that say that a value was written on purpose. The log of 0 was so only where it emptied a softmax.
INTENDED = frozenset({Origin.LITERAL, Origin.MASK})


def is_mask(tensor: torch.Tensor) -> bool:
    """Whether a tensor looks like an additive mask: every value is 0 or -inf (1 or -inf for a multiplied one)."""
    values = values_of(tensor)
    finite = values[torch.isfinite(values)]
    others = (values == -torch.inf) | torch.isfinite(values)
    return bool(others.all()) and bool(((finite == 0) | (finite == 1)).all())


def origin_of_write(family: str, literals: Sequence[float], constant: torch.Tensor | None) -> Origin:
    """The origin of the bad values that an operation wrote; :func:`refine` gives the origin of one of them.

    ``family`` is the operation's name without namespace and overload, ``literals`` are the non-finite numbers among its
    arguments. ``constant`` is the tensor that it wrote, where it only turns a constant of the program into a tensor.
    """
    if constant is not None:
        return Origin.MASK if is_mask(constant) else Origin.LITERAL
    if literals:
        return Origin.LITERAL
    return Origin.LOG_OF_ZERO if family in _LOGS else Origin.COMPUTED


def refine(origin: Origin, value: complex | float, literals: Sequence[float]) -> Origin:
    """The origin of one bad value of a tensor: beside a literal infinity an operation may have computed a NaN.

    ``literals`` are the non-finite numbers among the operation's arguments; empty for a constant.
    """
    if isinstance(value, complex):
        return Origin.COMPUTED
    if origin is Origin.LITERAL and literals:
        is_among = any(number == value or (math.isnan(number) and math.isnan(value)) for number in literals)
        return Origin.LITERAL if is_among else Origin.COMPUTED
    if origin is Origin.LOG_OF_ZERO and value != -math.inf:
        return Origin.COMPUTED
    return origin


def origin_of_initial(kind: str, tensor: torch.Tensor | None) -> Origin:
    """The origin of a value that was there before the step.

    ``kind`` is the kind of a :class:`TensorSource`; ``tensor`` holds the value, None where it was not kept. Nothing is known
    of how a constant was made, so that it counts as written on purpose until a line of Python is found that made it.
    """
    if kind == "parameter":
        return Origin.COMPUTED
    if tensor is not None and is_mask(tensor):
        return Origin.MASK
    return Origin.LITERAL if kind == "constant" else Origin.COMPUTED
