"""Tells the weights of a model from other arrays, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from datacheck.batch import Batch

#: What weights, statistics and the states of optimizers are called, after the name of their module.
_NAME = re.compile(
    r"(.*\.)?([\w-]+\.(weight|bias|kernel|gamma|beta|scale|running_mean|running_var|embedding|lora_[AB]\.\w+)"
    r"|(state|optimizer)\..*\.(exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|sum))"
)


def are_parameters(names: Iterable[str | None]) -> bool:
    """Whether the arrays of a file are a model's: one of them is named as only a weight is."""
    return any(name is not None and _NAME.fullmatch(name) is not None for name in names)


def as_parameters(batch: Batch) -> Batch:
    """The batch with its columns marked as weights."""
    return batch.with_columns(tuple(replace(column, is_parameter=True) for column in batch.columns))
