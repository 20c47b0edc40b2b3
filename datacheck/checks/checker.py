"""All checks of a schema, run on the batches of one unit."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from datacheck.batch import Batch, Column
from datacheck.checks.base import Outcome, RowCheck
from datacheck.checks.bounds import bound_rules, numeric_bounds
from datacheck.checks.boxes import box_rules
from datacheck.checks.chat import chat_rules
from datacheck.checks.coerce import coerce_batch, find_unconvertible
from datacheck.checks.columns import missing_columns, split_columns
from datacheck.checks.faults import count_undecoded, fault_outcomes, keys_outcomes
from datacheck.checks.finite import finite_rules
from datacheck.checks.lists import list_rules
from datacheck.checks.membership import membership_rules
from datacheck.checks.missing import field_of, missing_rules
from datacheck.checks.mixed_text import nan_words
from datacheck.checks.own_checks import own_rules, register_own_checks
from datacheck.checks.parameters import parameter_bounds, parameter_rules
from datacheck.checks.rules import LeafRules, run_rules
from datacheck.checks.sentinels import foreign_sentinels, has_missing, mark_missing, null_missing, sentinel_rules
from datacheck.checks.structure import FieldFacts
from datacheck.checks.text import text_rules
from datacheck.checks.tokens import token_rules
from datacheck.leaves import FLOAT_FORMATS, Leaf
from datacheck.schema.builtin_checks import SET_CHECKS
from datacheck.schema.dataset_constraints import has_rules_across_files
from datacheck.schema.dimensions import row_dimensions
from datacheck.schema.field_paths import matching_paths
from datacheck.schema.keys import unique_keys
from datacheck.schema.model import Schema

if TYPE_CHECKING:
    from datacheck.checks.whole_file import WholeFile


_NOTHING: frozenset[str] = frozenset()


class RuleSet:
    """The rules of a schema for each leaf, built once and shared by all units of a job.

    ``requested`` returns, for a leaf's path, the codes that a cleaning rule requests even if the schema allows them.
    """

    def __init__(self, schema: Schema, requested: Callable[[str | None], frozenset[str]] | None = None) -> None:
        self.schema = schema
        self._requested = requested
        self._has_missing = has_missing(schema)
        self._rules: dict[tuple[str | None, Any], LeafRules] = {}

    @cached_property
    def has_row_checks(self) -> bool:
        """Whether a check of the schema needs whole rows."""
        return has_row_checks(self.schema)

    @cached_property
    def has_rules_across_files(self) -> bool:
        """Whether the schema has a rule that no file shows alone."""
        return has_rules_across_files(self.schema)

    def __reduce__(self) -> tuple[type[RuleSet], tuple[Any, ...]]:
        return RuleSet, (self.schema, self._requested)

    def rules_for(self, leaf: Leaf) -> LeafRules:
        """The rules for a leaf."""
        key = (leaf.path, (leaf.dtype, leaf.is_parameter) if leaf.is_numeric else leaf.values.type)
        rules = self._rules.get(key)
        if rules is None:
            rules = self._rules[key] = self._build(leaf)
        return rules

    def prepared(self, leaf: Leaf) -> Leaf:
        """The leaf as the schema means it: in its logical dtype, and with the values marked that stand for missing ones."""
        leaf = self._with_logical_dtype(leaf)
        return mark_missing(leaf, self.schema) if self._has_missing else leaf

    def _with_logical_dtype(self, leaf: Leaf) -> Leaf:
        """The leaf in the dtype that the schema gives to the integers that store it (bfloat16 stored as uint16)."""
        field = self.schema.field_for(leaf.path)
        if field is None or field.dtype == leaf.dtype:
            return leaf
        if field.dtype is None or field.dtype not in FLOAT_FORMATS or leaf.dtype != FLOAT_FORMATS[field.dtype].name:
            return leaf
        return replace(leaf, dtype=field.dtype)

    def _build(self, leaf: Leaf) -> LeafRules:
        field = field_of(self.schema, leaf)
        requested = self._requested(leaf.path) if self._requested else _NOTHING
        if leaf.dtype == "null":
            # There are no values that another rule could judge.
            return LeafRules(tuple(missing_rules(field, requested)))
        rules = (
            *finite_rules(leaf, field, requested),
            *missing_rules(field, requested),
            *sentinel_rules(leaf, field, self.schema, requested),
            *bound_rules(leaf, field),
            *membership_rules(leaf, field),
            *list_rules(leaf, field),
            *own_rules(leaf, field),
            *text_rules(leaf, field),
            *token_rules(leaf, field),
            *box_rules(leaf, field),
            *chat_rules(leaf, field),
        )
        bounds = numeric_bounds(leaf, field)
        if bounds is None and (found := parameter_rules(leaf)):
            return LeafRules((*rules, *found), parameter_bounds(leaf))
        return LeafRules(rules, bounds)


class Checker:
    """Runs all checks of a rule set on values and rows, and collects facts about the fields.

    ``with_rows`` also finds the rows and positions of violations; without it a scan of dirty data is faster.

    Attributes:
        fields: the facts about each leaf so far, by path.
        num_values: for each path the number of slots so far, and of those that hold a value; for None, in data whose records
            differ in their keys, the number of records.
    """

    def __init__(self, rules: RuleSet, *, with_rows: bool = False) -> None:
        self.schema = rules.schema
        self.fields: dict[str | None, FieldFacts] = {}
        self.num_values: dict[str | None, tuple[int, int]] = {}
        self._owners: dict[str | None, str | None] = {}
        self._rule_set = rules
        self._with_rows = with_rows
        self._row_checks: list[RowCheck] | None = None if rules.has_row_checks else []

    def check(self, batch: Batch) -> list[Outcome]:
        """The outcomes of one batch: those with violations for rules about values, and all for rules about rows."""
        return self.check_coerced(batch, coerce_batch(batch, self.schema))

    def check_coerced(self, read: Batch, batch: Batch) -> list[Outcome]:
        """:meth:`check` of a batch as it was read, and as :func:`coerce_batch` converted it."""
        outcomes = [*find_unconvertible(read, batch, self.schema), *nan_words(batch)]
        outcomes += fault_outcomes(batch, self.schema)
        seen: set[str | None] = set()
        containers: dict[str | None, Leaf] = {}
        for column_index, column in enumerate(batch.columns):
            for leaf_index, leaf in enumerate(column.leaves(distinct=not self._with_rows)):
                is_shared = leaf.path in seen or self._owners.setdefault(leaf.path, column.name) != column.name
                seen.add(leaf.path)
                self._collect_facts(leaf, column, is_shared=is_shared)
                # Lists that are all empty have no objects, so none that lacks a key.
                if batch.is_ragged and (leaf.dtype == "struct" or (leaf.dtype == "null" and not len(leaf))):
                    containers[leaf.path] = leaf
                if leaf.values is not None:
                    outcomes += self._check_leaf(leaf, (column_index, leaf_index), batch)
                    outcomes += self._check_columns(leaf, batch)
        if batch.is_ragged:
            outcomes += self._check_keys(batch, containers, seen)
        row_checks = self._checks_of_rows(batch)
        known = null_missing(batch, self.schema) if row_checks else batch
        for row_check in row_checks:
            outcomes += row_check.run(known)
        return [with_lines(one.with_spread(batch), batch) for one in outcomes]

    def _collect_facts(self, leaf: Leaf, column: Column, *, is_shared: bool) -> None:
        known = self.fields.get(leaf.path)
        if is_shared and known is not None:
            known = self.fields[leaf.path] = replace(known, is_shared=True)
        if known is None or isinstance(column.data, np.ndarray) or leaf.dtype != known.dtype:
            facts = FieldFacts.of(leaf, column)
            self.fields[leaf.path] = known.followed_by(facts) if known else facts

    def _check_keys(self, batch: Batch, objects: Mapping[str | None, Leaf], seen: Set[str | None]) -> list[Outcome]:
        """The fields of the schema that no record of a batch has. That they are no columns of it is then no fault."""
        slots, present = self.num_values.get(None, (0, 0))
        self.num_values[None] = (slots + batch.num_rows, present + batch.num_rows)
        absent = [path for path in self.schema.fields if path is not None and not matching_paths(path, seen)]
        for path in absent:
            dtype = self.schema.fields[path].dtype or "null"
            self.fields.setdefault(path, FieldFacts(dtype, top_level="." not in path))
        return [outcome for path in absent for outcome in keys_outcomes(path, batch, objects, self.schema)]

    def _check_leaf(self, leaf: Leaf, leaf_id: tuple[int, int], batch: Batch) -> list[Outcome]:
        slots, present = self.num_values.get(leaf.path, (0, 0))
        present += len(leaf) - leaf.num_nulls + count_undecoded(leaf, batch)
        self.num_values[leaf.path] = (slots + len(leaf), present)
        leaf = self._rule_set.prepared(leaf)
        rules = self._rule_set.rules_for(leaf)
        if not rules.rules:
            return []
        outcomes = run_rules(leaf, rules, batch, with_rows=self._with_rows)
        if not batch.has_lines:  # a text file may have words in columns of numbers
            outcomes += foreign_sentinels(leaf, field_of(self.schema, leaf))
        return [
            one if one.values is None else replace(one, values=replace(one.values, leaf_id=leaf_id)) for one in outcomes
        ]

    def _check_columns(self, leaf: Leaf, batch: Batch) -> list[Outcome]:
        """The outcomes of the rules for single indices of an axis; repairs search for the values again."""
        outcomes = list(missing_columns(leaf, self.schema))
        for part in split_columns(self._rule_set.prepared(leaf), self.schema):
            outcomes += [replace(one, values=None) for one in self._check_leaf(part, (-1, -1), batch)]
        return outcomes

    def _checks_of_rows(self, batch: Batch) -> list[RowCheck]:
        if self._row_checks == []:
            return []
        from datacheck.checks.row_checks import build_row_checks, is_across_fields

        if self._row_checks is None:
            self._row_checks = build_row_checks(self.schema, [name or "" for name in batch.names])
        return [check for check in self._row_checks if not (batch.is_alone and is_across_fields(check))]


def with_lines(outcome: Outcome, batch: Batch) -> Outcome:
    """The outcome with the lines of its examples, in a text file, or with the members of an archive that they are in."""
    if not batch.has_lines and batch.keys is None:
        return outcome
    examples = tuple(
        one
        if one.row is None or one.line is not None
        else replace(one, line=batch.line_of(one.row), member=batch.member_of(one.row, outcome.field))
        for one in outcome.examples
    )
    return replace(outcome, examples=examples)


def has_row_checks(schema: Schema) -> bool:
    """Whether a check of the schema needs whole rows."""
    return bool(schema.row_rules) or _has_pandera(schema) or bool(row_dimensions(schema))


def _has_pandera(schema: Schema) -> bool:
    """Whether pandera itself checks a part of the schema."""
    is_whole = schema.pandera is not None or schema.pandera_object is not None
    names = (name for field in schema.fields.values() for name in field.checks)
    return is_whole or any(name not in SET_CHECKS for name in names)


def whole_file_of(schema: Schema, max_bytes: int | None, *, is_table: bool = True) -> WholeFile | None:
    """What collects a file for the checks of a schema that need all its rows; None if there are none.

    The arrays of a file that is not a table are judged together, too, by the rules across fields.
    """
    if not _has_pandera(schema) and (is_table or not has_row_checks(schema)):
        return None
    from datacheck.checks.whole_file import WholeFile

    whole = WholeFile(schema, max_bytes, is_table=is_table)
    return whole if whole.checks or not is_table else None


def load_libraries(schema: Schema) -> None:
    """Import the libraries that the checks of a schema need, in the calling thread.

    Threads that import pandas or pandera for the first time at the same time can see partly initialised modules.
    """
    register_own_checks(schema)
    if _has_pandera(schema):
        importlib.import_module("pandera.pandas")
    elif has_row_checks(schema) or unique_keys(schema):
        importlib.import_module("pandas")
