"""DC208: text that is not valid UTF-8."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from datacheck.checks.rules import ValueRule
from datacheck.leaves import BoolArray, Leaf

__all__ = ["text_rules"]


def text_rules(leaf: Leaf) -> list[ValueRule]:
    """The rule for the encoding of text."""
    return [ValueRule("DC208", _mask, screened=False)] if leaf.dtype == "string" and not leaf.is_numeric else []


def _mask(leaf: Leaf, part: slice) -> BoolArray:
    texts = leaf.values[part.start : part.stop]
    mask = np.zeros(len(texts), np.bool_)
    _mark(texts, mask)
    return mask


def _mark(texts: pa.Array, mask: BoolArray) -> None:
    """Mark invalid texts: Arrow validates many at once, and halves of those that fail."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            mask[0] = True
            return
        middle = len(texts) // 2
        _mark(texts[:middle], mask[:middle])
        _mark(texts[middle:], mask[middle:])
