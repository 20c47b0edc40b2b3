"""The cleaning plan: the rules of a pipeline in order, and what they decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from datacheck.batch import Batch, Column
from datacheck.cleaning.rules import Clip, DropField, Impute, Repair, Rule, is_repair
from datacheck.codes import CODES
from datacheck.errors import PipelineError
from datacheck.schema.field_parts import part_path, split_part_path
from datacheck.schema.validation import validate

Otherwise = Literal["quarantine", "drop_row", "fail", "report"]


#: The codes of values that a schema can allow, and that a rule can ask for all the same.
_ALLOWABLE = tuple(number for number, code in CODES.items() if code.allowable)


class Action(StrEnum):
    """What to do about a violation: with the value, its row, or the whole run."""

    REPAIR = "repair"
    DROP_ROW = "drop_row"
    QUARANTINE = "quarantine"
    FAIL = "fail"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Step:
    """A repair of one leaf: the rule, its index in the plan, the codes that it handles there, and the file of the plan."""

    index: int
    rule: Repair
    codes: frozenset[str]
    file: str = ""

    @property
    def location(self) -> str:
        """The rule as error messages name it: ``pipelines/flights.yaml: clean[2] (impute)``."""
        rule = f"clean[{self.index}] ({self.rule.action})"
        return f"{self.file}: {rule}" if self.file else rule


@dataclass(frozen=True, slots=True)
class CleaningPlan:
    """The cleaning rules in order, and the default action.

    :func:`~datacheck.cleaning.validate_plan.validate_plan` resolves a plan for the fields of a dataset:

    Attributes:
        file: the pipeline file, for error messages.
        paths: the leaf paths of the data.
        containers: the paths of lists and structs, whose nulls no value can replace.
        keys: the paths of unique keys, which a repair could make equal.
        nameless: the schema's name for the one array of an ``.npy``.
        parts: for each leaf whose columns or channels have rules, their paths.
    """

    rules: tuple[Rule, ...] = ()
    otherwise: Otherwise = "quarantine"
    file: str = ""
    paths: frozenset[str | None] = frozenset()
    containers: frozenset[str] = frozenset()
    keys: frozenset[str | None] = frozenset()
    nameless: str | None = None
    parts: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)
    _steps: dict[str | None, tuple[Step, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _fingerprint: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def all_paths(self) -> list[str | None]:
        """The paths of what may be repaired: leaves, and the columns and channels of some."""
        return [*self.paths, *(part for parts in self.parts.values() for part in parts)]

    def decide(self, path: str | None, code: str) -> Action:
        """The action for a violation of ``code`` in a field or leaf: the action of the first rule that applies."""
        rule = self._first_rule(path, code)
        if rule is None:
            return Action(self.otherwise) if CODES[code].is_error else Action.REPORT
        return Action.REPAIR if is_repair(rule) or isinstance(rule, DropField) else Action(rule.action)

    def rank(self, path: str | None, code: str) -> int:
        """The index of the rule that decides; the number of rules if none applies."""
        rule = self._first_rule(path, code)
        return len(self.rules) if rule is None else self.rules.index(rule)

    def requested_codes(self, path: str | None) -> frozenset[str]:
        """The codes of NaN, infinities and nulls to look for in a leaf even where the schema allows them.

        A rule about rows requests the codes that it names, a repair those that it replaces.
        """
        requested = set()
        for code in _ALLOWABLE:
            rule = self._first_rule(path, code)
            if rule is not None and rule.codes is not None and rule.action in ("drop_row", "quarantine", "fail"):
                requested.add(code)
        if path not in self.containers:
            requested.update(code for step in self.repairs_for(path) for code in step.codes if code in _ALLOWABLE)
        return frozenset(requested)

    def repairs_for(self, path: str | None) -> tuple[Step, ...]:
        """The repairs of a leaf, in order, up to a rule that drops its field.

        A repair does not handle codes that an earlier ``report`` rule leaves as they are.
        """
        if path not in self._steps:
            self._steps[path] = self._find_repairs(path)
        return self._steps[path]

    def drops(self, name: str | None) -> bool:
        """Whether a field is dropped."""
        return any(isinstance(rule, DropField) and self._applies(rule, name) for rule in self.rules)

    def drops_leaf(self, path: str | None) -> bool:
        """Whether a leaf belongs to a dropped field."""
        return any(isinstance(rule, DropField) and self._drops_path(rule, path) for rule in self.rules)

    def num_rounds(self, paths: Iterable[str | None]) -> int:
        """The number of passes over the training split that learning takes.

        A statistic is learned from data that was repaired by the rules before it.
        """
        return max(map(self._num_rounds_of, paths), default=0)

    def learns(self, rule: Rule, path: str | None) -> bool:
        """Whether a rule has a statistic of its own for a leaf; for a column or channel, if it names that itself."""
        split = None if path is None or path in self.paths else split_part_path(path)
        if split is None or not is_learned(rule):
            return is_learned(rule)
        return self._applies(rule, path) and not self._applies(rule, split[0])

    @property
    def fingerprint(self) -> str:
        """A hash of the rules, which statistics refer to."""
        if not self._fingerprint:
            rules = [rule.model_dump(mode="json", exclude_none=True) for rule in self.rules]
            text = json.dumps(rules, sort_keys=True, separators=(",", ":"), allow_nan=False)
            self._fingerprint.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")
        return self._fingerprint[0]

    def location(self, index: int, key: str = "") -> str:
        """The location of a rule in its file: ``pipelines/flights.yaml: clean[2].strategy``."""
        path = f"clean[{index}]{f'.{key}' if key else ''}"
        return f"{self.file}: {path}" if self.file else path

    def may_repair(self, column: Column) -> bool:
        """Whether a repair may apply to something in a column. Cheap: a nested column is not walked for it."""
        data = column.data
        if isinstance(data, np.ndarray):
            is_flat = data.dtype.names is None
        else:
            kind = data.type.value_type if pa.types.is_dictionary(data.type) else data.type
            is_flat = not (pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType))
        paths = (column.name, *self.parts.get(column.name, ()))
        return not is_flat or any(self.repairs_for(path) for path in paths)

    def _num_rounds_of(self, path: str | None) -> int:
        """The passes that one leaf takes. Its parts wait for one another only where a rule is about all of it."""
        rounds = dict.fromkeys((path, *self.parts.get(path, ())), 0)
        steps = [(step.index, part, step.rule) for part in rounds for step in self.repairs_for(part)]
        for _, part, rule in sorted(steps, key=lambda step: (step[0], step[1] != path)):
            if part == path:
                rounds = dict.fromkeys(rounds, max(rounds.values()) + self.learns(rule, part))
            else:
                rounds[part] += self.learns(rule, part)
        return max(rounds.values())

    def _first_rule(self, path: str | None, code: str) -> Rule | None:
        for rule in self.rules:
            if code not in rule.covered:
                continue
            if isinstance(rule, DropField):
                if self._drops_path(rule, path):
                    return rule
            elif self._applies(rule, path) and not (is_repair(rule) and path in (self.containers | self.keys)):
                return rule
        return None

    def _applies(self, rule: Rule, path: str | None) -> bool:
        if rule.matches(path) or self.nameless is None:
            return rule.matches(path)
        split = None if path is None else split_part_path(path)
        if split is not None and split[0] is None:
            return rule.matches(part_path(self.nameless, split[1]))
        return path is None and rule.matches(self.nameless)

    def _drops_path(self, rule: Rule, path: str | None) -> bool:
        """Whether a path belongs to a field that ``rule`` drops."""
        if self._applies(rule, path):
            return True
        return path is not None and any(
            path.startswith((f"{outer}.", f"{outer}[]")) and rule.matches(outer) for outer in self.containers
        )

    def _find_repairs(self, path: str | None) -> tuple[Step, ...]:
        steps: list[Step] = []
        left_alone: set[str] = set()
        for index, rule in enumerate(self.rules):
            if isinstance(rule, DropField):
                if self._drops_path(rule, path):
                    break
            elif not self._applies(rule, path):
                continue
            elif is_repair(rule):
                if path in self.keys:
                    continue
                codes = rule.covered - left_alone
                if codes:
                    steps.append(Step(index, rule, codes, self.file))
            elif rule.action == "report":
                left_alone |= rule.covered
        return tuple(steps)


class _CleanSection(BaseModel):
    model_config = ConfigDict(extra="forbid")

    clean: tuple[Rule, ...] = ()
    otherwise: Otherwise = "quarantine"


def parse_plan(clean: Iterable[Any], otherwise: str = "quarantine", file: str = "") -> CleaningPlan:
    """A plan from plain values, as in a pipeline file; raises ``PipelineError``."""
    if isinstance(clean, Mapping):
        raise PipelineError(file or "rules", "expected a list of rules, got one rule; write [rule]")
    section = validate(_CleanSection, {"clean": list(clean), "otherwise": otherwise}, file or "rules", PipelineError)
    return CleaningPlan(section.clean, section.otherwise, file)


def is_learned(rule: Rule) -> bool:
    """Whether a rule needs a statistic that is learned from the training split."""
    if isinstance(rule, Impute):
        return rule.strategy != "constant"
    return isinstance(rule, Clip) and rule.quantiles is not None


def leaf_dtypes(batch: Batch) -> dict[str | None, str]:
    """The leaf paths of a batch with their logical dtypes, as ``validate_plan`` expects them."""
    return {leaf.path: leaf.dtype for column in batch.columns for leaf in column.leaves()}
