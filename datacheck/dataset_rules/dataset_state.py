"""All rules of a schema about a dataset, and what is known of them in a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from datacheck.batch import Batch
from datacheck.checks.checker import RuleSet
from datacheck.dataset_rules.base import Context, DatasetOutcome, DatasetRule, Part, RuleState
from datacheck.dataset_rules.line_numbers import LineNumbers
from datacheck.schema.dataset_constraints import has_rules_across_files
from datacheck.schema.keys import key_columns, outer_names, unique_keys
from datacheck.schema.model import Schema


def build_dataset_rules(schema: Schema) -> tuple[DatasetRule, ...]:
    """The rules of a schema about the dataset, in a fixed order."""
    return (*rules_of_whole(schema), *rules_of_rows(schema))


def rules_of_rows(schema: Schema) -> tuple[DatasetRule, ...]:
    """The rules that name rows at fault without which the others pass, so that these can be removed."""
    if not has_rules_across_files(schema):
        return ()
    from datacheck.dataset_rules.build import build_rules_of_rows

    return build_rules_of_rows(schema)


def rules_of_whole(schema: Schema) -> tuple[DatasetRule, ...]:
    """The rules that no row is at fault for: without a row after a gap there is still a gap."""
    if not has_rules_across_files(schema):
        return ()
    from datacheck.dataset_rules.build import build_rules_of_whole

    return build_rules_of_whole(schema)


def is_across_files(rules: RuleSet) -> bool:
    """Whether the files of a dataset are not judged one by one: there are unique keys, or rules about the dataset."""
    # Asked for each file: most schemas have neither, which the rule set knows.
    return rules.has_rules_across_files and bool(unique_keys(rules.schema) or build_dataset_rules(rules.schema))


def columns_across_files(schema: Schema) -> tuple[str, ...] | None:
    """The columns that unique keys and the rules about the dataset need, to read from files; None for all.

    Where only rows are counted, one column would do, but which ones a file has is not known.
    """
    found = [rule.columns for rule in build_dataset_rules(schema)]
    paths = [path for columns in found for path in columns]
    if None in paths or not all(found):
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
    part: Part
    lines: LineNumbers = field(default_factory=LineNumbers)

    @classmethod
    def start(cls, rules: Sequence[DatasetRule], part: Part) -> DatasetState:
        return cls([rule.start(part) for rule in rules], part)

    @classmethod
    def restore(cls, rules: Sequence[DatasetRule], saved: Sequence[Any]) -> DatasetState:
        """The state that :meth:`saved` describes."""
        part, states, lines = saved
        restored = cls.start(rules, part)
        for state, one in zip(restored.states, states, strict=True):
            state.load(one)
        restored.lines = LineNumbers(lines)
        return restored

    def saved(self) -> list[Any]:
        """What it knows as plain values, arrays and tables."""
        return [self.part, [state.saved() for state in self.states], self.lines.by_file]

    def update(self, batch: Batch) -> None:
        """Add the next batch, in the dtypes of the schema."""
        for state in self.states:
            state.update(batch)
        self.lines.add(self.part.uri, batch)

    def merge(self, other: DatasetState) -> None:
        """Add the state of the next part."""
        for state, following in zip(self.states, other.states, strict=True):
            state.merge(following)
        self.lines.merge(other.lines)

    def outcomes(self, context: Context) -> list[DatasetOutcome]:
        """Judge the whole dataset."""
        found = [outcome for state in self.states for outcome in state.outcomes(context)]
        return [replace(one, finding=self.lines.located(one.finding)) for one in found]

    def close(self) -> None:
        for state in self.states:
            state.close()
