"""Check a sample: a screen that takes microseconds, then the checks of the main job if it trips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datacheck.batch import Batch
from datacheck.checks.base import Outcome, RowCheck
from datacheck.checks.checker import RuleSet, has_row_checks
from datacheck.checks.coerce import coerce_batch
from datacheck.checks.columns import missing_columns, split_columns
from datacheck.checks.own_checks import register_own_checks
from datacheck.checks.row_checks import build_file_checks, build_row_checks
from datacheck.checks.rules import run_rules
from datacheck.checks.sentinels import null_missing
from datacheck.checks.structure import FieldFacts, check_structure
from datacheck.codes import CODES
from datacheck.dataset_rules.dataset_state import build_dataset_rules
from datacheck.dataset_rules.dimensions import DimensionsRule
from datacheck.findings import Example, Finding
from datacheck.schema.dtypes import dtype_kind
from datacheck.schema.keys import key_field, unique_keys
from datacheck.schema.model import Field, Schema
from datacheck.schema.tolerances import is_tolerated_in_sample
from datacheck.torch.loader.columns import columns_are_clean
from datacheck.torch.loader.lists import ListPaths
from datacheck.torch.loader.path_screens import PathScreens, as_declared
from datacheck.torch.loader.row_screen import RowScreen
from datacheck.torch.loader.screens import always, never
from datacheck.torch.loader.walker import SampleLeaf, walk_sample

#: Why a unique key cannot be checked in one sample.
UNIQUE = "uniqueness concerns the whole dataset; call check(), or run 'datacheck scan' on its files"
OF_DATASET = "its rules are about the whole dataset; call check(), or run 'datacheck scan' on its files"
NEEDS_SCAN = (UNIQUE, OF_DATASET)

#: The dtype of nulls and empty lists; like a container's, it violates no field.
_NOTHING = "list<null>"


class SampleCheck:
    """Checks samples against a schema.

    ``is_number`` tells whether a None at a path stands for a number. Without it, a None in a field that the schema does not
    mention is accepted.

    Attributes:
        unchecked: the reason for each path whose values cannot be checked, or not in one sample alone. The caller reports
            and empties it.
    """

    def __init__(self, schema: Schema, is_number: Callable[[str | None], bool] | None = None) -> None:
        register_own_checks(schema)
        self.schema = schema
        self._is_number = is_number
        self.unchecked: dict[str, str] = {key_field(key) or "": UNIQUE for key in unique_keys(schema)}
        for rule in build_dataset_rules(schema):
            if isinstance(rule, DimensionsRule) and rule.is_within_rows:
                continue
            self.unchecked.setdefault(", ".join(path or "" for path in rule.columns), OF_DATASET)
        self.lists = ListPaths.of(schema)
        self._rule_set = RuleSet(schema)
        self._root = PathScreens(self._rule_set, self.lists, always if is_number is None else never)
        self._has_structure = bool(schema.fields) or schema.strict
        self.unchecked |= _checks_of_files(schema)
        self._row_checks: dict[tuple[str, ...], list[RowCheck]] | None = {} if has_row_checks(schema) else None
        self._row_screen = None if self._row_checks is None else RowScreen.of(schema)

    def __reduce__(self) -> tuple[type[SampleCheck], tuple[Any, ...]]:
        return SampleCheck, (self.schema, self._is_number)

    def is_clean(self, sample: Any) -> bool:
        """Whether a sample is certainly clean. If not, it needs the exact check."""
        try:
            return (
                not self.unchecked
                and self._root.screen(sample)
                and (self._row_screen is None or self._row_screen(sample))
            )
        except RecursionError:  # it contains itself; the exact check limits the depth
            return False

    def are_clean(self, samples: Sequence[Any]) -> bool:
        """Whether all samples are certainly clean; many small ones are screened together."""
        return (
            not self.unchecked
            and columns_are_clean(self._root, samples)
            and (self._row_screen is None or all(map(self._row_screen, samples)))
        )

    def ignore_keys(self) -> None:
        """Do not report unique keys and rules about the dataset as unchecked, since a scan checks them."""
        self.unchecked = {path: problem for path, problem in self.unchecked.items() if problem not in NEEDS_SCAN}

    def find_violations(
        self, sample: Any, uri: str, row: int | None, row_group: int | None = None
    ) -> tuple[Finding, ...]:
        """What is wrong with a sample, exactly; empty for a clean one.

        ``uri``, ``row_group`` and ``row`` are the location that findings name; ``row`` is None for a sample that is a file
        of its own.
        """
        place = Batch((), 1, row or 0, row_group)
        found = list(walk_sample(sample, lists=self.lists))
        outcomes: list[Outcome] = []
        for one in found:
            outcomes += self._check_leaf(one, place)
        if self._has_structure:
            example = Example(place.row_start, row_group)
            facts = dict(self._facts(found))
            faults = check_structure(self.schema, {**_hidden_by_empty(self.schema, facts), **facts}, (), None)
            outcomes += [replace(fault, examples=(example,)) for fault in faults]
        if self._row_checks is not None:
            outcomes += self._check_row(found, place)
        findings = [
            outcome.to_finding(uri)
            for outcome in outcomes
            # A note does not make a sample bad.
            if outcome.num_violations
            and outcome.reported
            and (outcome.severity or CODES[outcome.code].severity) != "info"
        ]
        return tuple(findings if row is not None else map(_without_rows, findings))

    def beyond_tolerances(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """The findings that the tolerances of the schema do not allow: a limit holds in each sample."""
        return tuple(one for one in findings if not is_tolerated_in_sample(one, self.schema.tolerances))

    def _check_leaf(self, one: SampleLeaf, place: Batch) -> Iterator[Outcome]:
        field = self.schema.field_for(one.path)
        if one.is_null and self._is_bad_null(one.path, field):
            example = Example(place.row_start, place.row_group, (), "null")
            yield Outcome("DC104", one.path, 1, 1, examples=(example,))
        if one.problem and field is None:
            self._root.reported.add(type(one.value))
            self.unchecked.setdefault(one.path or "", one.problem)
        if one.column is None:
            return
        one = self._coerced(one)
        for leaf in one.leaves():
            leaf = self._rule_set.prepared(leaf)
            if leaf.problem:
                if field is None:
                    self.unchecked.setdefault(leaf.path or "", leaf.problem)
                continue
            if leaf.dtype == "null":  # only the rule on nulls applies
                governing = self.schema.field_for(leaf.path)
                if governing is not None and not governing.nullable and len(leaf.values):
                    example = Example(place.row_start, place.row_group, (), "null")
                    yield Outcome("DC104", leaf.path, len(leaf.values), len(leaf.values), examples=(example,))
                continue
            yield from missing_columns(leaf, self.schema)
            for part in (leaf, *split_columns(leaf, self.schema)):
                yield from run_rules(part, self._rule_set.rules_for(part), place, with_rows=False)

    def _is_bad_null(self, path: str | None, field: Field | None) -> bool:
        if field is None:
            return self._is_number is not None and self._is_number(path)
        return not field.nullable

    def _coerced(self, one: SampleLeaf) -> SampleLeaf:
        """The value coerced to the dtype of its field where ``coerce`` allows it."""
        assert one.column is not None
        (column,) = coerce_batch(Batch((one.column,), 1), self.schema).columns
        return one if column is one.column or column.unconvertible is not None else replace(one, column=column)

    def _facts(self, found: Sequence[SampleLeaf]) -> Iterator[tuple[str | None, FieldFacts]]:
        for one in found:
            is_top = one.path is None or "." not in one.path
            if one.is_null:
                # A null is present, and has no dtype, shape or parts that could be wrong.
                yield one.path, FieldFacts(_NOTHING, top_level=is_top)
            elif one.problem:
                yield one.path, FieldFacts("unknown", None, self._problem(one.path, one.problem), is_top)
            elif one.column is None:
                yield one.path, FieldFacts("struct", top_level=is_top)
            else:
                for leaf in self._coerced(one).leaves():
                    field = self.schema.field_for(leaf.path)
                    dtype = leaf.dtype
                    if field is not None and field.dtype is not None and not one.is_typed and _is_kind(dtype, field):
                        dtype = field.dtype
                    shape = None if one.shape is None else as_declared(one.shape, field)
                    if dtype == "null":  # only nulls, or empty
                        dtype, shape = _NOTHING, None
                    is_whole = is_top and leaf.path == one.path
                    yield leaf.path, FieldFacts(dtype, shape, self._problem(leaf.path, leaf.problem), is_whole)

    def _problem(self, path: str | None, problem: str) -> str:
        """A problem counts against the sample only if the schema has a field for the path."""
        return problem if self.schema.field_for(path) is not None else ""

    def _check_row(self, found: Sequence[SampleLeaf], place: Batch) -> Iterator[Outcome]:
        assert self._row_checks is not None
        columns = tuple(one.column for one in found if one.column is not None)
        names = tuple(column.name or "" for column in columns)
        checks = self._row_checks.get(names)
        if checks is None:
            checks = self._row_checks[names] = build_row_checks(self.schema, names)
        row = null_missing(coerce_batch(place.with_columns(columns), self.schema), self.schema)
        for check in checks:
            yield from check.run(row)


def _checks_of_files(schema: Schema) -> dict[str, str]:
    """The pandera checks that need all rows, by field; and why a single sample cannot show them."""
    if not has_row_checks(schema):
        return {}
    problem = "needs all rows at once; run 'datacheck scan' on the files"
    outcomes = [outcome for check in build_file_checks(schema) for outcome in check.not_run(problem)]
    return {outcome.field or "": outcome.detail for outcome in outcomes}


def _hidden_by_empty(schema: Schema, facts: Mapping[str | None, FieldFacts]) -> dict[str | None, FieldFacts]:
    """The fields inside nulls and empty lists, which are not missing."""
    empty = tuple(f"{path}{mark}" for path, fact in facts.items() if fact.dtype == _NOTHING for mark in ("[]", "."))
    names = [name for name in schema.fields if name is not None and name.startswith(empty)] if empty else []
    return {name: FieldFacts(_NOTHING, top_level=False) for name in names}


def _is_kind(dtype: str, field: Field) -> bool:
    """Whether a Python number is of the kind of a field; it has no width."""
    return "<" not in dtype and dtype != "struct" and dtype_kind(dtype) == dtype_kind(field.dtype)


def _without_rows(finding: Finding) -> Finding:
    """The finding for a sample that is a file of its own."""
    return replace(finding, examples=tuple(replace(example, row=None) for example in finding.examples))
