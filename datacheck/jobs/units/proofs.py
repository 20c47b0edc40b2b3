"""Leaving column chunks of a Parquet file unread whose statistics prove that no value breaks a rule.

The rules are not written a second time for statistics: they judge a witness, a few values among which are the extremes. A rule
about single values that holds for the extremes holds for all values between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from datacheck.batch import Batch, Column
from datacheck.checks.checker import Checker, RuleSet
from datacheck.dataset_rules.dataset_state import is_across_files
from datacheck.findings import Finding
from datacheck.sources import get_source
from datacheck.sources.base import WorkUnit

if TYPE_CHECKING:
    from datacheck.sources.parquet_statistics import ChunkStatistics


#: The codes of rules that hold for every value between two for which they hold, and of rules about nulls and NaN.
_OF_INTERVALS = frozenset({"DC101", "DC102", "DC103", "DC104", "DC201", "DC202", "DC203", "DC204"})


def can_prove(unit: WorkUnit, rules: RuleSet) -> bool:
    """Whether statistics can replace the values of this unit: no rule needs several fields, or the dataset."""
    return (
        unit.options.trust_statistics
        and unit.format == "parquet"
        and not (rules.has_row_checks or is_across_files(rules) or rules.schema.missing)
    )


@dataclass(slots=True)
class Proofs:
    """Reads a unit without the column chunks about which everything is proven.

    Attributes:
        num_values: of the chunks that were not read, the slots of each field and those that hold a value.
        num_proven, num_chunks: the column chunks that were not read, and all of them.
    """

    unit: WorkUnit
    rules: RuleSet
    num_values: dict[str | None, tuple[int, int]] = field(default_factory=dict)
    num_proven: int = 0
    num_chunks: int = 0

    def batches(self) -> Iterator[Batch]:
        """The batches of the chunks that must be read, and an empty one of those that need not."""
        from datacheck.sources.parquet import open_parquet
        from datacheck.sources.parquet_statistics import chunk_statistics

        unit = self.unit
        file = open_parquet(unit.uri, unit.fingerprint, unit.options)
        names, row_start = file.schema_arrow.names, unit.row_start
        for group in unit.row_groups:
            num_rows = file.metadata.row_group(group).num_rows
            proven = self._proven(chunk_statistics(unit, group))
            self.num_chunks += len(names)
            self.num_proven += len(proven)
            if proven:
                rest = tuple(name for name in names if name not in proven)
                yield _without_rows(proven, row_start, group)
                for name, one in proven.items():
                    slots, present = self.num_values.get(name, (0, 0))
                    self.num_values[name] = slots + num_rows, present + num_rows - one.num_nulls
                if not rest:
                    yield Batch((), num_rows, row_start, group)
            if not proven or rest:
                options = replace(unit.options, columns=rest) if proven else unit.options
                part = replace(unit, row_groups=(group,), row_start=row_start, num_rows=num_rows, options=options)
                yield from get_source(unit.format).read(part)
            row_start += num_rows

    def finding(self) -> Finding:
        """How much was not read."""
        return Finding("DC917", self.unit.uri, None, self.num_proven, self.num_chunks)

    def _proven(self, known: dict[str, ChunkStatistics]) -> dict[str, ChunkStatistics]:
        """The columns whose statistics prove that they break no rule."""
        if not known:
            return {}
        witnesses = Batch.from_arrow(pa.record_batch([one.witness() for one in known.values()], names=list(known)))
        broken = {outcome.field for outcome in Checker(self.rules).check(witnesses)}
        return {
            name: one
            for column, (name, one) in zip(witnesses.columns, known.items(), strict=True)
            if name not in broken and self._has_interval_rules(column)
        }

    def _has_interval_rules(self, column: Column) -> bool:
        """Whether the rules about a column can be decided from its extremes, a null and a NaN alone."""
        schema_field = self.rules.schema.field_for(column.name)
        if schema_field is not None and (schema_field.coerce or schema_field.columns or schema_field.channels):
            return False
        for leaf in column.leaves():
            prepared = self.rules.prepared(leaf)
            rules = self.rules.rules_for(prepared).rules
            if prepared.dtype != leaf.dtype or any(rule.code not in _OF_INTERVALS for rule in rules):
                return False
        return True


def _without_rows(proven: dict[str, ChunkStatistics], row_start: int, group: int) -> Batch:
    """What tells the names and types of columns, and no values."""
    arrays = [pa.array([], one.type) for one in proven.values()]
    return Batch.from_arrow(pa.record_batch(arrays, names=list(proven)), row_start, group, counts_rows=False)
