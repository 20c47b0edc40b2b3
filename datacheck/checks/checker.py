"""All checks of a schema over the batches of one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from datacheck.batch import Batch
from datacheck.checks.base import Outcome, RowCheck
from datacheck.checks.bounds import bound_rules, numeric_bounds
from datacheck.checks.finite import finite_rules
from datacheck.checks.lists import list_rules
from datacheck.checks.membership import membership_rules
from datacheck.checks.missing import missing_rules
from datacheck.checks.rules import run_rules
from datacheck.checks.structure import FieldFacts, dtype_matches, facts_of
from datacheck.leaves import FLOAT_FORMATS, Leaf
from datacheck.schema.model import Field, Schema

__all__ = ["BatchVerdict", "Checker"]

#: What holds for a field that no schema mentions: no NaN, no infinity; nulls are not judged.
UNMENTIONED = Field(nullable=True)

_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BatchVerdict:
    """What the checks say of one batch: an outcome for each rule, and the facts of its fields."""

    outcomes: tuple[Outcome, ...]
    fields: Mapping[str | None, FieldFacts]


class Checker:
    """Runs every check of ``schema`` that looks at values or rows.

    ``forced`` gives, for a leaf's path, the codes that a cleaning rule asks for whatever the schema allows.
    ``with_rows`` also says which rows have violations; without it a scan of dirty data is faster.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        forced: Callable[[str | None], frozenset[str]] | None = None,
        with_rows: bool = False,
    ) -> None:
        self.schema = schema
        self.with_rows = with_rows
        self._forced = forced or (lambda path: _NOTHING)
        self._row_checks: list[RowCheck] | None = None

    def check(self, batch: Batch) -> BatchVerdict:
        """The verdict on one batch."""
        outcomes: list[Outcome] = []
        fields: dict[str | None, FieldFacts] = {}
        for column in batch.columns:
            is_array = not hasattr(column.data, "type")
            for leaf in column.leaves():
                fields.setdefault(leaf.path, facts_of(leaf, leaf.path == column.name, is_array))
                if leaf.values is not None:
                    outcomes.extend(self._check_leaf(leaf, batch))
        for row_check in self._checks_of_rows(batch.names):
            outcomes.extend(row_check.run(batch))
        return BatchVerdict(tuple(outcomes), fields)

    def _check_leaf(self, leaf: Leaf, batch: Batch) -> list[Outcome]:
        field = self.schema.field_for(leaf.path) or UNMENTIONED
        if field.dtype in FLOAT_FORMATS and leaf.is_numeric and dtype_matches(leaf.dtype, field.dtype):
            leaf = replace(leaf, dtype=field.dtype)
        forced = self._forced(leaf.path)
        rules = [
            *finite_rules(leaf, field, forced),
            *missing_rules(leaf, field, forced),
            *bound_rules(leaf, field),
            *membership_rules(leaf, field),
            *list_rules(leaf, field),
        ]
        return run_rules(leaf, rules, numeric_bounds(leaf, field), batch, with_rows=self.with_rows) if rules else []

    def _checks_of_rows(self, names: Sequence[str | None]) -> list[RowCheck]:
        if self._row_checks is None:
            self._row_checks = []
            if self.schema.checks or self.schema.pandera or any(field.checks for field in self.schema.fields.values()):
                from datacheck.checks.custom import build_row_checks

                self._row_checks = build_row_checks(self.schema, [name or "" for name in names])
        return self._row_checks
