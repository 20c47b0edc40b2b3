"""DC208 and DC211 to DC214: text that is not valid UTF-8, is blank, padded or damaged, or of a wrong length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.checks.rules import ValueRule, uncheckable
from datacheck.leaves import BoolArray, Leaf, arrow_bits
from datacheck.schema.model import Field

#: Control characters other than tab and line breaks, and what stands for bytes that could not be decoded. For RE2.
CONTROL_CHARACTERS = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\x{FFFD}"

Finds = Callable[[pa.Array], Any]


def text_rules(leaf: Leaf, field: Field) -> list[ValueRule]:
    """The rule for the encoding of text, and those that the field has for texts and lengths."""
    if leaf.is_numeric or leaf.values is None or pa.types.is_nested(leaf.values.type):
        return []
    is_text = leaf.dtype == "string"
    rules = [ValueRule("DC208", _mask, screened=False)] if is_text else []
    wanted: tuple[tuple[str, bool, Finds, str], ...] = (
        ("DC211", field.not_blank, _is_blank, "not_blank"),
        ("DC212", field.stripped, _is_padded, "stripped"),
        ("DC213", field.printable, _is_damaged, "printable"),
    )
    for code, is_wanted, finds, key in wanted:
        if is_wanted and is_text:
            rules.append(ValueRule(code, _where(finds), screened=False))
        elif is_wanted:
            rules.append(uncheckable(code, f"{key}: the values are {leaf.dtype}, not strings"))
    low, high = field.min_length, field.max_length
    if low is not None or high is not None:
        if is_text or leaf.dtype == "binary":
            unit = "characters" if is_text else "bytes"
            limits = f"{low or 0} or more" if high is None else f"{low or 0} to {high}"
            rules.append(ValueRule("DC214", _where(_has_other_length(low, high)), f"{limits} {unit}", screened=False))
        else:
            rules.append(uncheckable("DC214", f"min_length: the values are {leaf.dtype}, which have no length"))
    return rules


def _where(finds: Finds) -> Callable[[Leaf, slice], BoolArray]:
    def mask(leaf: Leaf, part: slice) -> BoolArray:
        return arrow_bits(pc.fill_null(finds(leaf.values[part.start : part.stop]), False))

    return mask


def _is_blank(texts: pa.Array) -> Any:
    return pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)


def _is_padded(texts: pa.Array) -> Any:
    return pc.not_equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), pc.binary_length(texts))


def _is_damaged(texts: pa.Array) -> Any:
    return pc.match_substring_regex(texts, CONTROL_CHARACTERS)


def _has_other_length(low: int | None, high: int | None) -> Finds:
    def finds(values: pa.Array) -> Any:
        is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        length = pc.utf8_length(values) if is_text else pc.binary_length(values)
        is_short = pc.less(length, low or 0)
        return is_short if high is None else pc.or_(is_short, pc.greater(length, high))

    return finds


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
