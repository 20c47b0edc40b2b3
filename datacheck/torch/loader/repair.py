"""Repair samples by the cleaning rules of a pipeline, with the statistics of ``datacheck fit``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from datacheck.batch import Batch
from datacheck.errors import CleaningError, PipelineError, UsageError
from datacheck.findings import Finding
from datacheck.schema.yaml_file import load_yaml
from datacheck.text import plain
from datacheck.torch.loader.lists import is_plain
from datacheck.torch.loader.rewrite import replace_values
from datacheck.torch.loader.walker import SampleLeaf, walk_sample

if TYPE_CHECKING:
    from datacheck.cleaning.fit.statistics import Statistics
    from datacheck.cleaning.plan import CleaningPlan
    from datacheck.schema.model import Schema
    from datacheck.torch.loader.sample_check import SampleCheck

    #: The path of a pipeline file, its rules as plain values, or a plan.
    CleaningLike: TypeAlias = str | os.PathLike[str] | Sequence[Mapping[str, Any]] | CleaningPlan
    #: The path of a file that ``datacheck fit`` wrote, or its content.
    StatisticsLike: TypeAlias = str | os.PathLike[str] | Statistics

__all__ = ["CleaningLike", "Repairer", "StatisticsLike", "build_repairer", "schema_reference"]


def build_repairer(cleaning: CleaningLike, statistics: StatisticsLike | None, schema: Schema) -> Repairer:
    """Load rules and statistics. Raises ``PipelineError``, ``CleaningError`` and ``UsageError``."""
    return Repairer(_load_cleaning(cleaning), _load_statistics(statistics), schema)


def _load_cleaning(cleaning: CleaningLike) -> CleaningPlan:
    from datacheck.cleaning.plan import CleaningPlan, parse_plan

    if isinstance(cleaning, CleaningPlan):
        return cleaning
    if isinstance(cleaning, str | os.PathLike):
        path = os.fspath(cleaning)
        record = load_yaml(path, PipelineError)
        return parse_plan(record.get("clean") or (), record.get("otherwise", "quarantine"), plain(path))
    return parse_plan(cleaning)


def schema_reference(cleaning: CleaningLike) -> Any:
    """The schema that a pipeline file names, for :func:`load_schema`; None if there is none."""
    if not isinstance(cleaning, str | os.PathLike):
        return None
    reference = load_yaml(os.fspath(cleaning), PipelineError).get("schema")
    if isinstance(reference, str):
        beside = Path(os.fspath(cleaning)).parent / reference
        return str(beside) if beside.exists() else reference
    return reference


def _load_statistics(statistics: StatisticsLike | None) -> Statistics | None:
    from datacheck.cleaning.fit.statistics import Statistics

    if statistics is None or isinstance(statistics, Statistics):
        return statistics
    path = os.fspath(statistics)
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{plain(path)}: {error.strerror}; create it with 'datacheck fit'") from None
    return Statistics.from_json(text, plain(path))


@dataclass
class Repairer:
    """Repairs samples by a cleaning plan for rows of files."""

    plan: CleaningPlan
    statistics: Statistics | None
    schema: Schema

    def __post_init__(self) -> None:
        from datacheck.cleaning.plan import is_learned
        from datacheck.cleaning.rules import Impute

        self._bound: dict[Any, CleaningPlan] = {}
        for index, rule in enumerate(self.plan.rules):
            if isinstance(rule, Impute) and rule.indicator is not False:
                problem = "a repaired sample cannot have an additional field; use 'datacheck run' instead"
                raise PipelineError(self.plan.location(index, "indicator"), problem)
            if is_learned(rule) and self.statistics is None:
                raise UsageError(
                    f"{self.plan.location(index)}: {rule.action} requires statistics; "
                    "create them with 'datacheck fit' and pass statistics='...'"
                )
        if self.statistics is not None:
            self.statistics.check_plan(self.plan)

    def repair(self, sample: Any, findings: Sequence[Finding], sample_check: SampleCheck) -> Any:
        """A copy of the sample with its bad values replaced; None if the rules cannot repair it.

        Findings may remain only where a ``report`` rule accepts them.
        """
        from datacheck.cleaning.plan import Action
        from datacheck.cleaning.repairs import apply_repairs

        if not all(self._decide(finding) in (Action.REPAIR, Action.REPORT) for finding in findings):
            return None
        found = [one for one in walk_sample(sample, lists=sample_check.lists) if _can_change(one)]
        columns = tuple(one.column for one in found if one.column is not None)
        batch = Batch(columns, 1)
        try:
            repaired, _ = apply_repairs(batch, self._plan_for(batch), self.schema, self.statistics)
        except CleaningError:
            return None
        pairs = zip(columns, repaired.columns, strict=True)
        changed = {new.name: new.data for old, new in pairs if new is not old}
        result = replace_values(sample, changed)
        if sample_check.is_clean(result):
            return result
        left = sample_check.find_violations(result, "", 0)
        return result if all(self._decide(finding) is Action.REPORT for finding in left) else None

    def _decide(self, finding: Finding) -> Any:
        return self.plan.decide(finding.field, finding.code)

    def _plan_for(self, batch: Batch) -> CleaningPlan:
        from datacheck.cleaning.plan import leaf_dtypes
        from datacheck.cleaning.validate_plan import validate_plan

        fields = leaf_dtypes(batch)
        key = tuple(fields.items())
        if key not in self._bound:
            self._bound[key] = validate_plan(self.plan, fields, self.schema)
        return self._bound[key]


def _can_change(one: SampleLeaf) -> bool:
    """Whether a repaired value can be put back into the sample."""
    if one.column is None or one.levels:
        return False
    was_sequence = isinstance(one.value, Sequence | Set | np.ndarray | torch.Tensor) and not isinstance(one.value, str)
    return isinstance(one.column.data, np.ndarray) or not was_sequence or is_plain(one.value)
