"""Rules across the arrays of a file that are not the columns of a table: one sample's arrays, or each sample's in a list.

A dictionary of tensors of different lengths is one sample, and a list of dictionaries is as many. The arrays in it are
values, as in a sample of a dataset. In a list, the field ``x`` of each sample is called ``x`` or ``[].x``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.checks.base import Outcome, RowCheck
from datacheck.checks.dimensions import DimensionCheck
from datacheck.checks.expression import ExpressionCheck
from datacheck.findings import MAX_EXAMPLES
from datacheck.schema.dimensions import named_axes, row_dimensions
from datacheck.schema.model import Schema
from datacheck.text import plain


@dataclass(slots=True)
class _Array:
    """An array, in the parts in which it was read; ``problem`` says why it cannot be judged."""

    dtype: str | None
    parts: list[Any] = field(default_factory=list)
    problem: str = ""

    def column(self, name: str) -> Column:
        whole = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)
        return Column(name, whole[None], self.dtype)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A check of one row and the fields that it needs. ``is_of_lists``: only of the samples of a list."""

    check: RowCheck
    label: str
    names: tuple[str, ...]
    is_of_lists: bool = False

    def find(self, known: Sequence[str]) -> dict[int | None, dict[str, str]]:
        """For each sample, which array each name stands for; the sample None is the file."""
        if not self.is_of_lists and all(name in known for name in self.names):
            return {None: {name: name for name in self.names}}
        found: dict[int | None, dict[str, str]] = {}
        for name in self.names:
            pattern = _pattern(name)
            for path in known:
                match = pattern.fullmatch(path)
                if match is not None:
                    found.setdefault(int(match[1]), {})[name] = path
        return dict(sorted(found.items(), key=lambda one: one[0] or 0))


def _pattern(name: str) -> re.Pattern[str]:
    """The paths of a name in the samples of a list; the index of the sample is the first group."""
    if "[]" not in name:
        name = f"[].{name}"
    first, _, rest = name.partition("[]")
    inside = re.escape(rest).replace(r"\[\]", r"\.\d+")
    return re.compile((re.escape(first) + r"\." if first else "") + r"(\d+)" + inside)


class SampleArrays:
    """Collects the arrays that the rules of a schema need, within a bound, and judges each sample."""

    def __init__(self, schema: Schema, max_bytes: int | None) -> None:
        self._rules = [
            _Rule(check, expression.label, check.names)
            for expression in schema.row_rules
            for check in [ExpressionCheck(expression, schema)]
        ]
        if row_dimensions(schema):
            paths = dict.fromkeys(axis.path for axis in named_axes(schema) if axis.path is not None)
            self._rules.append(_Rule(DimensionCheck(schema), "dimensions", tuple(paths), is_of_lists=True))
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._has_parts = False
        self._arrays: dict[str, _Array] = {}
        self._wanted = {name: _pattern(name) for rule in self._rules for name in rule.names}

    def add(self, batch: Batch) -> None:
        """Add the next part of an array."""
        self._has_parts = True
        for column in batch.columns:
            name = column.name
            if name is None or not any(name == one or path.fullmatch(name) for one, path in self._wanted.items()):
                continue
            known = self._arrays.setdefault(name, _Array(column.dtype))
            if column.problem or batch.rows is not None or not isinstance(column.data, np.ndarray):
                known.problem = column.problem or "it is sparse"
                continue
            self._num_bytes += column.num_bytes
            if self.is_full:
                self._arrays.clear()
            else:
                known.parts.append(column.data)

    @property
    def is_full(self) -> bool:
        """Whether the arrays take more than the bound."""
        return self._max_bytes is not None and self._num_bytes > self._max_bytes

    def outcomes(self) -> Iterator[Outcome]:
        """The outcomes of each rule; none if there were no arrays, as in a table, which other checks judge."""
        for rule in self._rules if self._has_parts else ():
            if self.is_full:
                problem = f"its arrays take more than {self._max_bytes:,} bytes; raise max_whole_file_bytes"
                yield _not_checked(rule, rule.names[0], problem)
                continue
            samples = rule.find(tuple(self._arrays))
            known = {name for sample in samples.values() for name in sample}
            missing = [name for name in rule.names if name not in known]
            if missing and not rule.is_of_lists:
                yield _not_checked(rule, missing[0], f"it is missing, but the rule '{rule.label}' needs it")
            elif samples:
                yield from self._judge(rule, samples)

    def _judge(self, rule: _Rule, samples: Mapping[int | None, Mapping[str, str]]) -> Iterator[Outcome]:
        found: dict[str, list[Outcome]] = {}
        lacking: list[str] = []
        for index, paths in samples.items():
            problems = [f"'{plain(path)}': {one}" for path in paths.values() if (one := self._arrays[path].problem)]
            absent = [f"sample {index} has no '{plain(name)}'" for name in rule.names if name not in paths]
            if problems or (absent and not rule.is_of_lists):
                lacking.append((problems or absent)[0])
                continue
            columns = tuple(self._arrays[path].column(name) for name, path in paths.items())
            for outcome in rule.check.run(Batch(columns, 1, index or 0)):
                if outcome.code == "DC005":
                    lacking.append(outcome.detail)
                else:
                    found.setdefault(outcome.rule or "", []).append(_of_sample(outcome, index))
        yield from (_merged(outcomes) for outcomes in found.values())
        if lacking:
            detail = lacking[0] if len(lacking) == 1 else f"{lacking[0]}, and {len(lacking) - 1:,} more"
            yield _not_checked(rule, rule.names[0], f"the rule '{rule.label}': {detail}")


def _not_checked(rule: _Rule, name: str, problem: str) -> Outcome:
    return Outcome("DC005", name, 1, 1, rule=rule.label, detail=problem)


def _of_sample(outcome: Outcome, index: int | None) -> Outcome:
    """The outcome of one sample, whose row is its index in the list; the only sample of a file has none."""
    if index is None:
        return replace(outcome, examples=tuple(replace(example, row=None) for example in outcome.examples))
    return outcome if outcome.rows is None else replace(outcome, rows=outcome.rows + index)


def _merged(outcomes: Sequence[Outcome]) -> Outcome:
    rows = [one.rows for one in outcomes if one.rows is not None]
    return replace(
        outcomes[0],
        num_checked=sum(one.num_checked for one in outcomes),
        num_violations=sum(one.num_violations for one in outcomes),
        rows=np.concatenate(rows) if rows else None,
        examples=tuple(example for one in outcomes for example in one.examples)[:MAX_EXAMPLES],
    )
