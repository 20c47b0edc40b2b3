"""The cause behind the evidence: the families of rules in the order in which they decide."""

from __future__ import annotations

from dataclasses import dataclass

from datacheck.torch.diagnosis.causes.evidence import Evidence, show
from datacheck.torch.diagnosis.causes.masks import explain_intended, explain_masked_branch
from datacheck.torch.diagnosis.causes.operations import (
    explain_backward,
    explain_custom_backward,
    explain_decomposition,
    explain_forward,
)
from datacheck.torch.diagnosis.causes.precision import explain_half_precision
from datacheck.torch.diagnosis.causes.reductions import explain_empty_reduction

__all__ = ["Classification", "classify"]

_RULES = (
    explain_custom_backward,
    explain_intended,
    explain_decomposition,
    explain_masked_branch,
    explain_half_precision,
    explain_empty_reduction,
    explain_backward,
    explain_forward,
)


@dataclass(frozen=True, slots=True)
class Classification:
    """A cause (one of :data:`datacheck.torch.diagnosis.diagnosis.CAUSES`), and the evidence for it."""

    cause: str
    explanation: str


def classify(evidence: Evidence) -> Classification:
    """The cause behind the evidence; ``unknown`` where no rule applies: the operation and the line are still right."""
    for rule in _RULES:
        found = rule(evidence)
        if found is not None:
            return Classification(*found)
    return Classification("unknown", f"{evidence.op} produced {show(evidence.value)} {evidence.location}")
