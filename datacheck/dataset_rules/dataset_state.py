"""All rules of a schema about a dataset, and what is known of them in a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datacheck.batch import Batch
from datacheck.checks.own_checks import load_dataset_checks
from datacheck.dataset_rules.base import Context, DatasetOutcome, DatasetRule, Part, RuleState
from datacheck.dataset_rules.dimensions import DimensionsRule
from datacheck.dataset_rules.distinct import DistinctRule
from datacheck.dataset_rules.field_values import Source
from datacheck.dataset_rules.keyed_rules import key_rules
from datacheck.dataset_rules.own_rules import OwnDatasetRule
from datacheck.dataset_rules.sequence import SequenceRule
from datacheck.dataset_rules.size import AgeRule, SizeRule
from datacheck.dataset_rules.statistics import StatisticsRule
from datacheck.dataset_rules.time_apart import TimeApartRule
from datacheck.dataset_rules.variants import VariantsRule
from datacheck.schema.dimensions import needs_whole_files
from datacheck.schema.field_parts import part_fields, part_path
from datacheck.schema.keys import key_columns, outer_names
from datacheck.schema.model import Schema

__all__ = [
    "DatasetState",
    "build_dataset_rules",
    "columns_across_files",
    "context_of",
    "reads_single_columns",
    "rules_of_rows",
    "rules_of_whole",
]


def build_dataset_rules(schema: Schema) -> tuple[DatasetRule, ...]:
    """The rules of a schema about the dataset, in a fixed order."""
    return (*rules_of_whole(schema), *rules_of_rows(schema))


def rules_of_rows(schema: Schema) -> tuple[DatasetRule, ...]:
    """The rules that name rows at fault without which the others pass, so that these can be removed."""
    return tuple(key_rules(schema, schema.folder))


def rules_of_whole(schema: Schema) -> tuple[DatasetRule, ...]:
    """The rules that no row is at fault for: without a row after a gap there is still a gap."""
    rules: list[DatasetRule] = []
    if schema.num_rows is not None or schema.num_files is not None:
        rules.append(SizeRule(schema.num_rows, schema.num_files))
    if needs_whole_files(schema):
        rules.append(DimensionsRule(schema))
    rules += map(SequenceRule, schema.sequence)
    for source in _sources(schema):
        field = source.field
        if any((field.mean, field.std, field.quantiles, field.share)):
            rules.append(StatisticsRule(source))
        if field.no_variants:
            rules.append(VariantsRule(source))
        distinct = DistinctRule(source)
        if distinct.num_wanted or distinct.required or distinct.only is not None:
            rules.append(distinct)
        if field.max_age is not None and source.path is not None and source.owner is None:
            rules.append(AgeRule(source.path, field.max_age))
    rules += map(OwnDatasetRule, load_dataset_checks(schema))
    if schema.splits is not None and schema.splits.time is not None:
        rules.append(TimeApartRule(schema.splits.time))
    return tuple(rules)


def _sources(schema: Schema) -> Iterator[Source]:
    """The fields of a schema, each followed by its columns or channels."""
    for path, field in schema.fields.items():
        source = Source(path, field, len(schema.fields) == 1)
        yield source
        for key, part in part_fields(field).items():
            yield Source(part_path(path, key), part, owner=source)


def columns_across_files(schema: Schema) -> tuple[str, ...] | None:
    """The columns that unique keys and the rules about the dataset need, to read from files; None for all.

    Where only rows are counted, one column would do, but which ones a file has is not known.
    """
    paths = [path for rule in build_dataset_rules(schema) for path in rule.columns]
    if None in paths or any(not rule.columns for rule in build_dataset_rules(schema)):
        return None
    return tuple(dict.fromkeys([*key_columns(schema), *(name for path in paths if path for name in outer_names(path))]))


def context_of(schema: Schema, uris: Sequence[str], train: str | None = None) -> Context:
    """The dataset that a schema's rules are judged on; ``train`` is the training split unless the schema names it."""
    named = None if schema.splits is None else schema.splits.train
    return Context(tuple(uris), named or train)


def reads_single_columns(rules: Iterable[DatasetRule]) -> bool:
    """Whether no rule needs two columns of a row at once."""
    return all(len(rule.columns) < 2 for rule in rules)


@dataclass(slots=True)
class DatasetState:
    """What the rules of a schema know of a part of the dataset."""

    states: list[RuleState]

    @classmethod
    def start(cls, rules: Sequence[DatasetRule], part: Part) -> DatasetState:
        return cls([rule.start(part) for rule in rules])

    @classmethod
    def restore(cls, rules: Sequence[DatasetRule], records: Any, part: Part) -> DatasetState:
        """Read what :meth:`to_json` wrote; raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        return cls([rule.restore(record, part) for rule, record in zip(rules, records, strict=True)])

    def update(self, batch: Batch) -> None:
        """Add the next batch, in the dtypes of the schema."""
        for state in self.states:
            state.update(batch)

    def merge(self, other: DatasetState) -> None:
        """Add the state of the next part."""
        for state, following in zip(self.states, other.states, strict=True):
            state.merge(following)

    def outcomes(self, context: Context) -> list[DatasetOutcome]:
        """Judge the whole dataset."""
        return [outcome for state in self.states for outcome in state.outcomes(context)]

    def close(self) -> None:
        for state in self.states:
            state.close()

    def to_json(self) -> list[Any]:
        return [state.to_json() for state in self.states]
