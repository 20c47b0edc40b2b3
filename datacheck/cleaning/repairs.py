"""Repairing batches: values are replaced, fields dropped and indicators added, as a plan says; rows stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.leaf_repair import LeafRepair, RepairCount
from datacheck.cleaning.masks import governed, is_container, name_of
from datacheck.cleaning.plan import CleaningPlan, Step
from datacheck.cleaning.rebuild import rebuild
from datacheck.cleaning.rules import Impute
from datacheck.cleaning.values import why_not
from datacheck.cleaning.violations import BatchViolations, violations_of_leaf
from datacheck.errors import CleaningError
from datacheck.leaves import BoolArray, Leaf
from datacheck.schema.model import Field, Schema

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
    """``batch`` repaired as ``plan`` says, and how many values were replaced by which rule.

    Rows, dtypes and shapes stay what they are, and indicators are added at the end. A column in which nothing is to be
    repaired is the same object, and so is the batch where nothing is; its memory is never written to. Give the rows
    that are kept: a violation that a rule about rows should have taken out is repaired where a later rule speaks of it.

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
    """``batch`` without the fields that ``plan`` leaves out of the output."""
    kept = tuple(column for column in batch.columns if not plan.drops(column.name))
    return batch if len(kept) == len(batch.columns) else batch.with_columns(kept)


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
            if not steps or leaf.values is None:
                continue
            leaf, field = governed(leaf, self._schema)
            if is_container(leaf):
                self._refuse_null_containers(leaf, field, steps)
                continue
            repair = LeafRepair(leaf, field, violations_of_leaf(violations, (column_index, leaf_index)))
            for step in steps:
                replaced = repair.run(step, self._statistics)
                self._indicate(step, repair.leaf, replaced)
            self.counts.extend(repair.counts)
            if repair.changed:
                self.leaves[leaf_index] = repair.leaf

    def _indicate(self, step: Step, leaf: Leaf, replaced: BoolArray | None) -> None:
        if not isinstance(step.rule, Impute) or replaced is None or why_not(step.rule, leaf.dtype) is not None:
            return
        name = step.rule.indicator_name(leaf.path)
        if name is not None:
            self.indicators.append(Column(name, self._indicator(leaf, replaced)))

    def _indicator(self, leaf: Leaf, replaced: BoolArray) -> Any:
        """A mask in the array's shape; for a nested column one value a row."""
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
                    f"{step.place}: {leaf.num_nulls:,} values of {name_of(leaf.path)} are null, and no value can stand "
                    f"for a whole {leaf.dtype}; name its values ('{leaf.path}[]' or '{leaf.path}.*') in this rule"
                )
