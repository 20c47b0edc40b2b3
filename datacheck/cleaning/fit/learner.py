"""Learning statistics from the training split: batch by batch, in parts that merge.

A rule's statistic is learned from data that was repaired by the rules before it. So a field with two learned rules
takes two passes (:meth:`~datacheck.cleaning.plan.CleaningPlan.num_rounds`); the columns of a field are learned side by
side. In each pass: ``learn`` every batch, ``merge`` the results within a unit in the order of its batches, then across
units in their order, ``finish``, and pass the statistics to the learner of the next pass. Sums and counts are
exact, so neither that order nor how the data is split changes them; it changes quantiles only beyond the memory limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from datacheck._version import __version__
from datacheck.batch import Batch
from datacheck.cleaning.fit.accumulator import Accumulator, MemoryLimits
from datacheck.cleaning.fit.statistics import Learned, LearnedFrom, Statistics
from datacheck.cleaning.leaf_repair import LeafRepair
from datacheck.cleaning.masks import find_broken_rule, is_container, require_features, resolve_leaf
from datacheck.cleaning.part_repairs import PartRepairs
from datacheck.cleaning.plan import CleaningPlan, Step, is_learned
from datacheck.cleaning.rules import Clip, Impute
from datacheck.cleaning.values import find_incompatibility
from datacheck.cleaning.violations import BatchViolations
from datacheck.errors import CleaningError
from datacheck.leaves import Leaf, Regular
from datacheck.schema.model import Field, Schema


@dataclass(slots=True)
class PartialStatistics:
    """The statistics of a part of the data: an accumulator for each learned rule and leaf."""

    num_rows: int = 0
    accumulators: dict[tuple[int, str | None], Accumulator] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Learner:
    """One pass of learning. All workers of a pass need the same options, and a plan validated for the same fields.

    Attributes:
        statistics: from the passes before.
        limits: how much memory a field may take.
        num_rows: the number of rows to learn from, if known. A field whose values exceed the limits is then sketched
            from the start.
    """

    plan: CleaningPlan
    schema: Schema
    statistics: Statistics | None = None
    limits: MemoryLimits | None = None
    num_rows: int | None = None
    _limits: MemoryLimits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_limits", self.limits or MemoryLimits.shared(self.plan))

    def learn(self, batch: Batch, violations: BatchViolations | None = None) -> PartialStatistics:
        """The statistics of one batch of the training split. ``violations`` is as for ``apply_repairs``."""
        partial = PartialStatistics(batch.num_rows if batch.counts_rows else 0)
        for column_index, column in enumerate(batch.columns):
            for leaf_index, leaf in enumerate(column.leaves() if self.plan.may_repair(column) else ()):
                if leaf.values is not None:
                    leaf, governing = resolve_leaf(leaf, self.schema)
                    known = None if violations is None else violations.of_leaf((column_index, leaf_index), leaf)
                    self._learn_leaf(LeafRepair(leaf, governing, known), batch.num_rows, partial)
        return partial

    def merge(self, partials: Iterable[PartialStatistics]) -> PartialStatistics:
        """Merge statistics. None of them is changed, but the result shares memory with them."""
        merged = PartialStatistics()
        for partial in partials:
            merged.num_rows += partial.num_rows
            for key, accumulator in partial.accumulators.items():
                if key not in merged.accumulators:
                    merged.accumulators[key] = accumulator.empty_like()
                merged.accumulators[key].merge(accumulator)
        return merged

    def finish(self, partial: PartialStatistics, source: Iterable[LearnedFrom] = ()) -> Statistics:
        """The statistics of the passes before, and of this one.

        Raises ``CleaningError`` if there was nothing to learn from, or a statistic cannot be used.
        """
        before = self.statistics or Statistics(self.plan.fingerprint)
        before.check_plan(self.plan)
        if before.learned and before.num_rows != partial.num_rows:
            raise CleaningError(
                f"the training split had {before.num_rows:,} rows in the first pass and {partial.num_rows:,} in this "
                "one; run again once nothing writes to it"
            )
        learned = [self._finish_one(accumulator) for accumulator in partial.accumulators.values()]
        learned = sorted([*before.learned, *learned], key=lambda entry: (entry.rule, entry.field or ""))
        return Statistics(
            self.plan.fingerprint, partial.num_rows, tuple(learned), tuple(source) or before.source, __version__
        )

    def _learn_leaf(self, repair: LeafRepair, num_rows: int, partial: PartialStatistics) -> None:
        leaf = repair.leaf
        if is_container(leaf):
            return
        parts = PartRepairs(self.plan, self.schema, leaf.path)
        by_index = {step.index: step for step in self.plan.repairs_for(leaf.path)}
        waiting: set[str | None] = set()  # parts of which a statistic is learned in this pass
        for index in sorted({*by_index, *parts.indices}):
            step = by_index.get(index)
            if step is not None:
                if waiting:
                    return
                if self._is_wanted(step, leaf):
                    self._collect(step, parts.without_unusable(repair.leaf, step), repair.field, num_rows, partial)
                    return
                repair.run(step, self.statistics)
            for part_step, part, governing in parts.at(index, repair.leaf):
                if part.path in waiting:
                    continue
                if self.plan.learns(part_step.rule, part.path) and self._is_wanted(part_step, part):
                    self._collect(part_step, part, governing, num_rows, partial)
                    waiting.add(part.path)
                else:
                    parts.run_one(part_step, part, governing, repair, self.statistics)

    def _is_wanted(self, step: Step, leaf: Leaf) -> bool:
        """Whether the statistic of a step has to be learned."""
        if not is_learned(step.rule) or find_incompatibility(step.rule, leaf.dtype) is not None:
            return False
        return self.statistics is None or self.statistics.find(step.index, leaf.path) is None

    def _collect(self, step: Step, leaf: Leaf, governing: Field, num_rows: int, partial: PartialStatistics) -> None:
        key = (step.index, leaf.path)
        width = None
        if isinstance(step.rule, Clip | Impute) and step.rule.per_feature:
            width = require_features(leaf, step.location)
        accumulator = partial.accumulators.get(key)
        if accumulator is None:
            accumulator = Accumulator(step, leaf.path, leaf.dtype, width, self._limits)
            partial.accumulators[key] = accumulator
            if self._is_too_large(leaf, num_rows):
                accumulator.start_sketch()
        accumulator.add(leaf, governing)

    def _is_too_large(self, leaf: Leaf, num_rows: int) -> bool:
        if self.num_rows is None or not num_rows or not leaf.is_numeric:
            return False
        if not all(isinstance(level, Regular) for level in leaf.levels):
            return False
        num_values = self.num_rows * (len(leaf) // num_rows)
        return num_values * int(leaf.values.dtype.itemsize) > self._limits.kept_bytes

    def _finish_one(self, accumulator: Accumulator) -> Learned:
        learned = accumulator.learn()
        later = [step.rule for step in self.plan.repairs_for(accumulator.path) if step.index > learned.rule]
        governing = self.schema.field_for(accumulator.path)
        if (
            governing is not None
            and learned.statistic != "quantiles"
            and not any(isinstance(rule, Clip) for rule in later)
        ):
            for (value,) in learned.values:
                broken = find_broken_rule(value, accumulator.dtype, governing)
                if broken is not None:
                    statistic = learned.statistic.replace("_", " ")
                    raise CleaningError(
                        f"{accumulator.step.location}: the {statistic} of {accumulator.name} is {value!r}, which "
                        f"violates the schema ({broken}); add {broken} to the rule's codes, so that such values are not "
                        "learned from, or use another strategy"
                    )
        return learned
