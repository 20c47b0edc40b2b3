"""What made a gradient 0: an operation that selects or masks, or chance."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from datacheck.torch.diagnosis.probe import Probe, can_run_again
from datacheck.torch.values import element

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.record import NodeRef, Operation, OpInput, Trace


#: The most writers to go back in search of the source of a gradient of 0.
MAX_LOOKBACK = 64

#: Operations whose derivative is 0 where something else was selected, by the name of their node.
_SELECTORS = {
    node: operation
    for operation, nodes in {
        "an assignment": ("copyslices", "indexcopy", "indexput", "selectscatter", "slicescatter"),
        "an index": ("index", "indexselect", "select", "take", "unbind"),
        "a product with 0": ("mul",),
        "a slice": ("slice", "split"),
        "clamp_max": ("clampmax",),
        "clamp_min": ("clampmin",),
        "index_fill": ("indexfill",),
        "masked_fill": ("maskedfill",),
        "masked_scatter": ("maskedscatter",),
        "masked_select": ("maskedselect",),
        "max": ("amax", "max"),
        "min": ("amin", "min"),
        "nan_to_num": ("nantonum",),
        "nll_loss": ("nllloss", "nllloss2d"),
    }.items()
    for node in nodes
}
_SELECTORS |= {
    name: name
    for name in ("clamp", "gather", "hardtanh", "maximum", "median", "minimum", "relu", "scatter", "sort", "threshold")
}
_SELECTORS |= {name: name for name in ("topk", "tril", "triu", "where")}
#: For a factor of 0, a saturated function or an underflow: none of them is a mask.
CHANCE = "a factor of 0"


def masking_operation(context: Context, op_input: OpInput, operation: Operation, position: int | None) -> str:
    """What made an incoming gradient 0 at a position: the nearest derivative that turns any gradient there into 0."""
    node = operation.node
    writers = list(_writers(context.trace, op_input))
    kept = context.record_again(frozenset(writer.index for writer in writers))
    shape = op_input.geometry.shape
    for writer in writers:
        number = _gradient(context.trace, writer)
        again = None if kept is None else kept.operations[writer.index]
        name = "" if writer.node is None else re.sub(r"Backward\d*$", "", writer.node.name).lower()
        is_own = writer.node is not None and node is not None and writer.node.sequence == node.sequence
        if not is_own and (name in _SELECTORS if again is None else _blocks(again, number, position)):
            # Where both factors are trained, neither is a mask: one of them just happens to be 0.
            is_factor = name == "mul" and _num_products(context.trace, writer) > 1
            return CHANCE if is_factor else _SELECTORS.get(name, CHANCE)
        before = writer.inputs[number].geometry.shape
        position = position if before == shape else None
        shape = before
    return CHANCE


def _blocks(operation: Operation, number: int, position: int | None) -> bool:
    """Whether a derivative gives 0 at a position (everywhere, if it is not known) whatever gradient it is given."""
    saved = operation.inputs[number].saved
    if saved is None or not can_run_again(operation):
        return False
    probe = Probe(operation)
    probe.replace(number, torch.ones_like(saved.tensor))
    output = probe.output({})
    if output is None:
        return False
    if position is not None and position < output.numel():
        return element(output, position) == 0
    return not bool(output.any())


def _writers(trace: Trace, op_input: OpInput) -> Iterator[Operation]:
    """The operations that a gradient comes from, nearest first, back to the loss."""
    for _ in range(MAX_LOOKBACK):
        if op_input.writer is None:
            return
        operation = trace.operations[op_input.writer]
        if operation.node is None or not operation.inputs:
            return
        yield operation
        op_input = operation.inputs[_gradient(trace, operation)]


def _gradient(trace: Trace, operation: Operation) -> int:
    """The number of the input with the incoming gradient: the first that the backward pass computed from other tensors."""
    for number, op_input in enumerate(operation.inputs):
        if op_input.writer is not None and (op_input.dtype.is_floating_point or op_input.dtype.is_complex):
            writer = trace.operations[op_input.writer]
            if writer.inputs and (writer.node is not None or writer.in_backward):
                return number
    return 0


def _num_products(trace: Trace, product: Operation) -> int:
    """How many factors of a product a gradient was made for."""
    node: NodeRef | None = product.node
    if node is None:
        return 0
    same = (other for other in trace.operations if other.node is not None and other.node.sequence == node.sequence)
    return sum(other.name.split(".")[1].strip("_") == "mul" for other in same)
