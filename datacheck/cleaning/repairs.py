"""Repairing batches: replace values, drop fields and add indicators by a plan. No row is removed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.checks.rebuild import rebuild
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.leaf_repair import LeafRepair, RepairCount
from datacheck.cleaning.masks import describe_field, is_container, resolve_leaf
from datacheck.cleaning.part_repairs import PartRepairs
from datacheck.cleaning.plan import CleaningPlan, Step
from datacheck.cleaning.rules import Impute
from datacheck.cleaning.values import find_incompatibility
from datacheck.cleaning.violations import BatchViolations
from datacheck.errors import CleaningError
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.model import Field, Schema
from datacheck.text import quantity

__all__ = ["RepairCount", "apply", "apply_repairs", "drop_fields"]


def apply(
    batch: Batch,
    plan: CleaningPlan,
    schema: Schema,
    statistics: Statistics | None = None,
    violations: BatchViolations | None = None,
) -> tuple[Batch, list[RepairCount]]:
    """Clean a batch for the output: :func:`apply_repairs`, then :func:`drop_fields`."""
    repaired, counts = apply_repairs(batch, plan, schema, statistics, violations)
    return drop_fields(repaired, plan), counts


def apply_repairs(
    batch: Batch,
    plan: CleaningPlan,
    schema: Schema,
    statistics: Statistics | None = None,
    violations: BatchViolations | None = None,
) -> tuple[Batch, list[RepairCount]]:
    """Repair a batch, and count the values that each rule replaced.

    Rows, dtypes and shapes don't change, and indicators are appended. A column without repairs is the same object, and
    so is a batch without any; its memory is never written to. Pass only kept rows: a violation in a row that should have
    been removed is repaired if a later rule applies to it.

    ``violations`` says where the values to repair are, if the batch was labelled; otherwise they are searched for.

    Raises ``CleaningError`` for a repair that doesn't apply to the dtype, or whose statistic was not learned.
    """
    if statistics is not None:
        statistics.check_plan(plan)
    columns: list[Column] = []
    indicators: list[Column] = []
    counts: list[RepairCount] = []
    for index, column in enumerate(batch.columns):
        if not plan.may_repair(column):
            columns.append(column)
            continue
        repair = _ColumnRepair(column, plan, schema, statistics, batch.num_rows)
        repair.run(index, violations)
        counts.extend(repair.counts)
        indicators.extend(repair.indicators)
        columns.append(rebuild(column, repair.leaves))
    if not indicators and all(new is old for new, old in zip(columns, batch.columns, strict=True)):
        return batch, counts
    return batch.with_columns((*columns, *indicators)), counts


def drop_fields(batch: Batch, plan: CleaningPlan) -> Batch:
    """``batch`` without the fields that ``plan`` drops."""
    kept = tuple(column for column in batch.columns if not plan.drops(column.name))
    if len(kept) == len(batch.columns):
        return batch
    dropped = tuple(column.name for column in batch.columns if column.name is not None and plan.drops(column.name))
    return replace(batch, columns=kept, dropped=dropped)


class _ColumnRepair:
    def __init__(
        self, column: Column, plan: CleaningPlan, schema: Schema, statistics: Statistics | None, num_rows: int
    ) -> None:
        self._column, self._plan, self._schema, self._statistics = column, plan, schema, statistics
        self._num_rows = num_rows
        self.leaves: dict[int, Leaf] = {}
        self.indicators: list[Column] = []
        self.counts: list[RepairCount] = []

    def run(self, column_index: int, violations: BatchViolations | None) -> None:
        for leaf_index, leaf in enumerate(self._column.leaves()):
            steps = self._plan.repairs_for(leaf.path)
            parts = PartRepairs(self._plan, self._schema, leaf.path)
            if not (steps or parts.indices) or leaf.values is None:
                continue
            leaf, field = resolve_leaf(leaf, self._schema)
            if is_container(leaf):
                self._refuse_null_containers(leaf, field, steps)
                continue
            known = None if violations is None else violations.of_leaf((column_index, leaf_index), leaf)
            is_array = isinstance(self._column.data, np.ndarray) and not isinstance(
                self._column.data, np.ma.MaskedArray
            )
            repair = LeafRepair(leaf, field, known, has_nulls=not is_array)
            by_index = {step.index: step for step in steps}
            for index in sorted({*by_index, *parts.indices}):
                step = by_index.get(index)
                replaced = None if step is None else repair.run(step, self._statistics)
                self.counts.extend(parts.run(index, repair, self._statistics, replaced))
                if step is not None:
                    self._indicate(step, repair.leaf, replaced)
            self.counts.extend(repair.counts)
            if repair.changed:
                self.leaves[leaf_index] = repair.leaf

    def _indicate(self, step: Step, leaf: Leaf, replaced: BoolArray | None) -> None:
        if (
            not isinstance(step.rule, Impute)
            or replaced is None
            or find_incompatibility(step.rule, leaf.dtype) is not None
        ):
            return
        name = step.rule.indicator_name(leaf.path)
        if name is not None:
            self.indicators.append(Column(name, self._indicator(leaf, replaced), is_new=True))

    def _indicator(self, leaf: Leaf, replaced: BoolArray) -> Any:
        """A mask in the array's shape; one value per row for a nested column."""
        if isinstance(self._column.data, np.ndarray):
            shape = tuple(size or 0 for size in leaf.shape or ())
            level = leaf.levels[0] if leaf.levels else None
            if getattr(level, "order", "C") == "F":
                return replaced.reshape(shape[::-1]).T
            return replaced.reshape(shape)
        if leaf.levels:
            by_row = np.zeros(self._num_rows, np.bool_)
            by_row[leaf.rows(np.flatnonzero(replaced))] = True
            replaced = by_row
        return pa.array(replaced, pa.bool_())

    def _refuse_null_containers(self, leaf: Leaf, field: Field, steps: tuple[Step, ...]) -> None:
        if leaf.num_nulls == 0 or field.nullable or leaf.path in self._plan.containers:
            return
        for step in steps:
            if "DC104" in step.codes:
                raise CleaningError(
                    f"{step.location}: {quantity(leaf.num_nulls, 'null')} in {describe_field(leaf.path)} cannot be replaced, "
                    f"because a {leaf.dtype} is not a single value; name its values in this rule "
                    f"('{leaf.path}[]' or '{leaf.path}.*')"
                )
