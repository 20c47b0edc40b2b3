"""Causes in half precision: values beyond its range, and values that round to 0."""

from __future__ import annotations

from datacheck.torch.diagnosis.causes.evidence import EDGE_AT_ZERO, Cause, Evidence, received

__all__ = ["explain_half_precision"]


def explain_half_precision(evidence: Evidence) -> Cause:
    """What float16 or bfloat16 did to a value that float32 holds."""
    if not evidence.is_half:
        return None
    if evidence.lost_epsilon is not None and evidence.op in EDGE_AT_ZERO:
        return (
            "float16-underflow",
            f"{received(evidence)} {evidence.location}: the epsilon {evidence.lost_epsilon:g} rounds to 0 in {evidence.dtype}",
        )
    if evidence.lost_value is not None:
        return (
            "float16-underflow",
            (
                f"{received(evidence)} {evidence.location}: the result of {evidence.lost_value} underflows to 0 in"
                f" {evidence.dtype}, but not in float32"
            ),
        )
    if evidence.finite_in_float32 and not evidence.joint:
        largest = "65,504" if evidence.dtype == "float16" else "3.39e38"
        return (
            "float16-overflow",
            (
                f"{received(evidence)} {evidence.location}: the result exceeds {largest}, the largest {evidence.dtype} value;"
                " in float32 it is finite"
            ),
        )
    return None
