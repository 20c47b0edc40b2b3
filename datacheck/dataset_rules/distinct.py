"""DC324: the number of different values of a field in the dataset, and the values that must occur.

A state keeps the first different values, only as many as the rule can ask for, in the order of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.batch import Batch
from datacheck.checks.rules import format_value
from datacheck.dataset_rules.base import Context, DatasetOutcome, Part, RuleState
from datacheck.dataset_rules.distinct_values import Block, FirstValues, as_arrow, blocks_of, plain_value
from datacheck.dataset_rules.field_values import Source, values_of
from datacheck.dataset_rules.group_rows import row_group_of
from datacheck.findings import Example, Finding
from datacheck.leaves import has_nonfinite
from datacheck.schema.builtin_checks import arguments_of
from datacheck.schema.rounding import round_float
from datacheck.schema.scalars import arrow_scalar
from datacheck.text import join_limited, quantity

DISTINCT = "DC324"


@dataclass(frozen=True, slots=True)
class DistinctRule:
    """What a schema says about the different values of one field."""

    source: Source

    @property
    def columns(self) -> tuple[str | None, ...]:
        return (self.source.column,)

    @property
    def only(self) -> tuple[Any, ...] | None:
        """The values that must be exactly the field's (pandera's ``unique_values_eq``)."""
        given = self.source.field.checks.get("unique_values_eq")
        arguments = None if given is None else arguments_of("unique_values_eq", given)
        return None if arguments is None else tuple(arguments["values"])

    @property
    def required(self) -> tuple[Any, ...]:
        """The values that must occur."""
        return tuple(dict.fromkeys([*(self.source.field.covers or ()), *(self.only or ())]))

    @property
    def num_wanted(self) -> int:
        """The number of different values that it may have to know."""
        field = self.source.field
        return max(field.min_distinct or 0, 0 if field.max_distinct is None else field.max_distinct + 1)

    def start(self, part: Part) -> DistinctState:
        return DistinctState(self, part)


class DistinctState(RuleState):
    """The first different values of a field, and its required values that have not occurred.

    Attributes:
        found: the first different values, as many as the rule can ask for.
        missing: the required values that have not occurred, by their index.
        first_other: the first value that is not listed, and its file, row and row group.
    """

    def __init__(self, rule: DistinctRule, part: Part) -> None:
        super().__init__(rule, part)
        self._source = rule.source
        self._required, self._is_closed = rule.required, rule.only is not None
        self.uris = [part.uri]
        self.num_values = 0
        self.found = FirstValues(rule.num_wanted)
        self.missing = set(range(len(self._required)))
        self.num_others = 0
        self.first_other: tuple[str, str, int, int | None] | None = None
        self.problem = ""

    @property
    def _is_settled(self) -> bool:
        """Whether no further value changes anything but the number of values."""
        return self.found.is_full and not self.missing and not self._is_closed

    def update(self, batch: Batch) -> None:
        for found in values_of(batch, self._source, distinct=True):
            self.num_values += found.num_values
            for block in () if self._is_settled else blocks_of(found):
                self.found.add(block, batch)
                if self.missing or self._is_closed:
                    self._find_members(block, batch)
                if self._is_settled:
                    break

    def _find_members(self, block: Block, batch: Batch) -> None:
        try:
            members = _members(self._required, block.values, block.found.leaf.dtype)
        except ValueError as error:
            self.problem = self.problem or str(error)
            return
        index = pc.index_in(as_arrow(block.values), members)
        self.missing -= set(pc.unique(index).drop_null().to_pylist())
        if self._is_closed and index.null_count:
            others = np.flatnonzero(index.is_null().to_numpy(zero_copy_only=False))
            self.num_others += len(others) if block.counts is None else int(block.counts[others].sum())
            if self.first_other is None:
                value = format_value(plain_value(as_arrow(block.values, others[:1])[0]))
                row = int(block.places(batch, others[:1])["row"][0])
                self.first_other = value, self.uris[0], row, batch.row_group

    def merge(self, other: DistinctState) -> None:
        self.problem = self.problem or other.problem
        self.num_values += other.num_values
        self.found.merge(other.found, len(self.uris))
        self.uris += other.uris
        self.missing &= other.missing
        self.num_others += other.num_others
        self.first_other = self.first_other or other.first_other

    def outcomes(self, context: Context) -> Iterable[DatasetOutcome]:
        uri = context.uris[0]
        if self.problem:
            detail = f"values that must occur: {self.problem}"
            yield DatasetOutcome(Finding("DC005", uri, self._source.path, 1, 1, detail=detail))
            return
        for rule, detail, number, total, examples in self._faults():
            where = examples[0][0] if examples else uri
            shown = tuple(example for _, example in examples)
            yield DatasetOutcome(Finding(DISTINCT, where, self._source.path, number, total, shown, rule, detail))

    def _faults(self) -> Iterator[tuple[str, str, int, int, list[tuple[str, Example]]]]:
        field, number = self._source.field, len(self.found)
        lowest, highest = field.min_distinct, field.max_distinct
        if lowest is not None and number < lowest:
            shown = self.found.shown()
            if number == 1:
                what = f"is constant: all {quantity(self.num_values, 'value')} are {shown[0]}"
            else:
                what = f"has {quantity(number, 'different value')}{f' ({join_limited(shown, 3)})' if shown else ''}"
            yield "min_distinct", f"{what}; expected at least {lowest}", 1, 1, []
        if highest is not None and number > highest:
            assert self.found.table is not None
            place, value = self.found.table.slice(highest, 1).to_pylist()[0], self.found.shown(highest, highest + 1)[0]
            where = self.uris[place["file"]]
            next_one = Example(place["row"], row_group_of(place["row_group"]), (), value)
            detail = f"has more than {quantity(highest, 'different value')}; the next one is {value}"
            yield "max_distinct", detail, 1, 1, [(where, next_one)]
        if self.missing:
            absent = [format_value(self._required[index]) for index in sorted(self.missing)]
            total = len(self._required)
            detail = f"lacks {len(absent)} of {total} values that must occur: {join_limited(absent)}"
            yield "covers", detail, len(absent), total, []
        if self.first_other is not None:
            value, uri, row, group = self.first_other
            detail = f"has values that are not listed, in {quantity(self.num_others, 'value')}: {value}"
            example = uri, Example(row, group, (), value)
            yield "unique_values_eq", detail, self.num_others, self.num_values, [example]


def _members(required: tuple[Any, ...], values: Any, dtype: str) -> pa.Array:
    """The required values in the type of the values; null for one that the type does not have."""
    if not isinstance(values, np.ndarray):
        return pa.array([arrow_scalar(value, values.type).as_py() for value in required], values.type)
    kind = pa.from_numpy_dtype(values.dtype)
    found: list[Any] = []
    for value in required:
        scalar = arrow_scalar(value, pa.bool_() if dtype == "bool" else kind).as_py()
        if has_nonfinite(dtype):
            found.append(round_float(scalar, dtype))
        elif isinstance(scalar, float) and not scalar.is_integer():
            found.append(None)
        else:
            limits = None if dtype == "bool" else np.iinfo(values.dtype)
            fits = limits is None or limits.min <= scalar <= limits.max
            found.append((scalar if limits is None else int(scalar)) if fits else None)
    return pa.array(found, kind)
