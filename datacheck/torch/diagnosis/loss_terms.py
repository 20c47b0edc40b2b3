"""Which term of a loss is non-finite, where the loss is a sum of terms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datacheck.text import plain
from datacheck.torch.diagnosis.causes.evidence import show
from datacheck.torch.diagnosis.fixes.source import Source
from datacheck.torch.diagnosis.program_source import position_of
from datacheck.torch.values import is_finite

if TYPE_CHECKING:
    import torch

    from datacheck.torch.diagnosis.record import Operation, Trace
    from datacheck.torch.diagnosis.root_cause import BadOutput


_SUMS = frozenset({"add", "sub", "rsub"})
#: Operations that a sum of terms may pass through on its way to the loss.
_AFTER = frozenset({"mean", "sum", "neg", "mul", "div", "_to_copy", "to_copy", "clone", "alias"})
#: The most terms and operations examined, and the most characters of a term shown.
MAX_TERMS = 12
MAX_PASSED = 8
SHOWN = 48


@dataclass(frozen=True, slots=True)
class _Term:
    text: str
    value: torch.Tensor

    def __str__(self) -> str:
        mean = self.value.detach().double().mean()
        return f"{self.text} = {show(float(mean))}{'' if self.value.numel() == 1 else ' (mean)'}"


def describe_terms(trace: Trace, loss: BadOutput) -> str:
    """The values of a non-finite loss's terms, the non-finite ones first; empty where it is no sum."""
    found = trace.writer_of(loss.geometry.key, loss.geometry.address(loss.position))
    operation = None if found is None else _sum_behind(trace, found[0])
    if operation is None:
        return ""
    terms = list(_terms(trace, operation))
    bad = [term for term in terms if not is_finite(term.value)]
    if len(terms) < 2 or not bad or len(bad) == len(terms):
        return ""
    good = [term for term in terms if is_finite(term.value)]
    are = "term of the loss is" if len(bad) == 1 else "terms of the loss are"
    return f"the non-finite {are} {_listed(bad)}; finite: {_listed(good)}"


def _listed(terms: list[_Term]) -> str:
    shown = ", ".join(map(str, terms[:MAX_TERMS]))
    return f"{shown} and {len(terms) - MAX_TERMS} more" if len(terms) > MAX_TERMS else shown


def _sum_behind(trace: Trace, operation: Operation) -> Operation | None:
    """The sum of at least two tensors that an operation's bad result comes from, through means and factors."""
    for _ in range(MAX_PASSED):
        if _is_sum(operation):
            return operation
        bad = operation.bad_inputs
        if operation.family not in _AFTER or len(bad) != 1:
            return None
        writer = operation.inputs[bad[0]].writer
        if writer is None or not trace.operations[writer].is_bad:
            return None
        operation = trace.operations[writer]
    return None


def _is_sum(operation: Operation) -> bool:
    return operation.family in _SUMS and len(operation.inputs) == 2


def _terms(trace: Trace, operation: Operation) -> Iterator[_Term]:
    """The terms of a sum, in order; a sum that is a term itself is replaced by its terms."""
    names = _names(operation)
    for number, op_input in enumerate(operation.inputs):
        writer = None if op_input.writer is None else trace.operations[op_input.writer]
        if writer is not None and op_input.is_bad and _is_sum(writer):
            yield from _terms(trace, writer)
        elif op_input.saved is not None:
            yield _Term(names[number] if number < len(names) else f"term {number + 1}", op_input.saved.tensor)


def _names(operation: Operation) -> list[str]:
    """The source of the two operands, where the sum is an operator of the program."""
    code = operation.where.code
    position = None if code is None else position_of(code, operation.where.offset)
    source = None if code is None else Source.of(code)
    node = None if source is None or position is None else source.node_at(position)
    if isinstance(node, ast.BinOp):
        operands: list[ast.expr] = [node.left, node.right]
    elif isinstance(node, ast.AugAssign):
        operands = [node.target, node.value]
    else:
        return []
    return [plain(ast.unparse(operand), SHOWN) for operand in operands]
