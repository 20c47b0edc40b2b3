"""The rules of a schema about a dataset. Whoever has a schema without any need not import them."""

from __future__ import annotations

from collections.abc import Iterator

from datacheck.checks.own_checks import load_dataset_checks
from datacheck.dataset_rules.base import DatasetRule
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
from datacheck.schema.model import Schema


def build_rules_of_rows(schema: Schema) -> tuple[DatasetRule, ...]:
    return tuple(key_rules(schema, schema.folder))


def build_rules_of_whole(schema: Schema) -> tuple[DatasetRule, ...]:
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
    for path, owner in schema.fields.items():
        source = Source(path, owner, len(schema.fields) == 1)
        yield source
        for key, part in part_fields(owner).items():
            yield Source(part_path(path, key), part, owner=source)
