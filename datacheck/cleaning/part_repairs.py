"""Repairs of single columns and channels of a leaf, which have rules of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from datacheck.batch import Batch
from datacheck.checks.base import Outcome
from datacheck.checks.columns import split_columns
from datacheck.checks.finite import NONFINITE_MASKS
from datacheck.checks.rules import examples_of
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.leaf_repair import LeafRepair, RepairCount
from datacheck.cleaning.masks import resolve_leaf
from datacheck.cleaning.plan import CleaningPlan, Step, is_learned
from datacheck.cleaning.rules import Impute
from datacheck.cleaning.violations import find_violations
from datacheck.findings import MAX_EXAMPLES
from datacheck.leaves import BoolArray, IntArray, Leaf
from datacheck.schema.field_parts import index_of, split_part_path
from datacheck.schema.model import Field, Schema


class PartRepairs:
    """The repairs of the columns or channels of one leaf.

    A learned rule that names a part has a statistic of that part. Any other imputes what only a part forbids by the
    statistic of the whole field, or of the column where it is ``per_feature``.
    """

    def __init__(self, plan: CleaningPlan, schema: Schema, path: str | None) -> None:
        self._plan, self._schema, self._path = plan, schema, path
        self._field = schema.field_for(path)
        self._steps: dict[int, dict[str | None, Step]] = {}
        for part in plan.parts.get(path, ()):
            for step in plan.repairs_for(part):
                if not is_learned(step.rule) or plan.learns(step.rule, part) or self._takes_whole(step):
                    self._steps.setdefault(step.index, {})[part] = step

    @property
    def indices(self) -> frozenset[int]:
        """The rules of the plan that apply to a part."""
        return frozenset(self._steps)

    def at(self, index: int, leaf: Leaf) -> Iterator[tuple[Step, Leaf, Field]]:
        """The parts that a rule of the plan applies to, with their fields."""
        steps = self._steps.get(index, {})
        for part in split_columns(leaf, self._schema) if steps else ():
            if part.path in steps:
                yield (steps[part.path], *resolve_leaf(part, self._schema))

    def run(
        self, index: int, repair: LeafRepair, statistics: Statistics | None, replaced: BoolArray | None = None
    ) -> list[RepairCount]:
        """Apply one rule to the parts of a leaf, as it is repaired so far; ``replaced`` is the mask of replaced values."""
        counts: list[RepairCount] = []
        for step, part, field in self.at(index, repair.leaf):
            counts += self.run_one(step, part, field, repair, statistics, replaced=replaced)
        return counts

    def run_one(
        self,
        step: Step,
        part: Leaf,
        field: Field,
        repair: LeafRepair,
        statistics: Statistics | None,
        *,
        replaced: BoolArray | None = None,
    ) -> list[RepairCount]:
        """Apply one rule to one part."""
        inner = LeafRepair(part, field, has_nulls=repair.has_nulls)
        found = inner.run(step, self._statistics_of(step, part, statistics))
        if inner.changed:
            repair.put_part(_positions(part), inner.leaf)
        if found is not None and replaced is not None:
            replaced[_positions(part)] |= found
        return inner.counts

    def without_unusable(self, leaf: Leaf, step: Step) -> Leaf:
        """The leaf, with what a column forbids marked as missing: nothing is learned from that for the whole field."""
        missing = None
        for part in split_columns(leaf, self._schema) if self._plan.parts.get(self._path) else ():
            resolved, field = resolve_leaf(part, self._schema)
            applies = part.path in self._steps.get(step.index, {})
            codes = {"DC110", *(step.codes - NONFINITE_MASKS.keys() - {"DC104"} if applies else ())}
            found = np.concatenate(list(find_violations(resolved, codes, field).values()))
            if len(found):
                missing = np.zeros(len(leaf), np.bool_) if missing is None else missing
                missing[_positions(resolved)[found]] = True
        if missing is None:
            return leaf
        return replace(leaf, missing=missing if leaf.missing is None else missing | leaf.missing)

    def _takes_whole(self, step: Step) -> bool:
        rule = step.rule
        is_by_column = self._field is not None and bool(self._field.columns)
        return isinstance(rule, Impute) and (is_by_column or not rule.per_feature)

    def _statistics_of(self, step: Step, part: Leaf, statistics: Statistics | None) -> Statistics | None:
        """Statistics in which the statistic of the whole field, or of the column in it, is the part's."""
        whole = None if statistics is None else statistics.find(step.index, self._path)
        split = None if part.path is None else split_part_path(part.path)
        if whole is None or split is None or self._plan.learns(step.rule, part.path):
            return statistics
        feature = (index_of(self._field, split[1]) or 0) if whole.per_feature else 0
        entry = replace(
            whole,
            field=part.path,
            per_feature=False,
            num_values=whole.num_values[feature : feature + 1],
            values=whole.values[feature : feature + 1],
        )
        return Statistics("", learned=(entry,))


def split_by_part(outcomes: Iterable[Outcome], plan: CleaningPlan, schema: Schema, batch: Batch) -> Iterator[Outcome]:
    """The outcomes, with the values of columns and channels as their own where another rule of the plan decides about them."""
    for one in outcomes:
        rank, found = plan.rank(one.field, one.code), one.values
        own = {part for part in plan.parts.get(one.field, ()) if plan.rank(part, one.code) != rank}
        if found is None or not own:
            yield one
            continue
        left = found.positions
        for part in split_columns(found.leaf, schema):
            if part.path in own:
                positions = _positions(part)
                yield from _of_part(one, part, np.flatnonzero(np.isin(positions, left)), batch)
                left = np.setdiff1d(left, positions)
        yield from _of_part(replace(one, values=replace(found, positions=left)), found.leaf, left, batch)


def _of_part(outcome: Outcome, leaf: Leaf, positions: IntArray, batch: Batch) -> Iterator[Outcome]:
    """The outcome for only some of its values; they are in ``leaf``."""
    if len(positions):
        yield replace(
            outcome,
            field=leaf.path,
            num_checked=outcome.num_checked if leaf.path == outcome.field else len(leaf),
            num_violations=len(positions),
            rows=leaf.rows(positions),
            examples=examples_of(leaf, positions[:MAX_EXAMPLES], batch),
            values=outcome.values if leaf.path == outcome.field else None,
            num_rows=None,
            spread=None,
            by_index=None,
        ).with_spread(batch)


def _positions(part: Leaf) -> IntArray:
    """The flat positions in the leaf of the values of a part."""
    return part.levels[0].parents(np.arange(len(part), dtype=np.int64))[0]
