"""DC215 and DC216: token ids outside the vocabulary, and rows in which a loss ignores every value."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from datacheck.checks.rules import ValueRule, uncheckable
from datacheck.checks.vectors import vectors_of
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.model import Field


def token_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """The rules for ``vocab_size`` and ``ignore_index``."""
    if leaf.values is None or (field.vocab_size is None and field.ignore_index is None) or _is_outer(leaf):
        return []
    if not leaf.is_numeric or not leaf.dtype.startswith(("int", "uint")):
        return [uncheckable("DC215", f"vocab_size: the values are {leaf.dtype}, not integers")]
    rules = []
    if field.vocab_size is not None:
        detail = f"token ids from 0 to {field.vocab_size - 1:,}"
        rules.append(ValueRule("DC215", _outside(field.vocab_size, field.ignore_index), detail))
    if field.ignore_index is not None:
        mask = partial(_all_ignored, field.ignore_index)
        rules.append(ValueRule("DC216", mask, str(field.ignore_index), screened=False, num_units=_num_vectors))
    return rules


def _num_vectors(leaf: Leaf) -> int:
    return len(vectors_of(leaf).starts) if leaf.levels else 0


def _is_outer(leaf: Leaf) -> bool:
    """Whether a leaf is a list or struct itself."""
    return not leaf.is_numeric and (leaf.dtype.startswith("list<") or leaf.dtype == "struct")


def _outside(size: int, ignored: int | None) -> Callable[[Leaf, slice], BoolArray]:
    def mask(leaf: Leaf, part: slice) -> BoolArray:
        values = leaf.values[part]
        outside: BoolArray = (values < 0) | (values >= size)
        return outside if ignored is None else outside & (values != ignored)

    return mask


def _all_ignored(ignored: int, leaf: Leaf, _: slice) -> BoolArray:
    """True for the first value of each vector in which every value is ignored."""
    mask = np.zeros(len(leaf), np.bool_)
    if not leaf.levels:  # a single label may be ignored
        return mask
    vectors = vectors_of(leaf)
    mask[vectors.starts[vectors.all(leaf.values == ignored)]] = True
    return mask
