"""Repair samples by the cleaning rules of a pipeline, with the statistics of ``datacheck fit``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from datacheck.batch import Batch
from datacheck.errors import CleaningError, PipelineError, UsageError
from datacheck.findings import Finding
from datacheck.leaves import FLOAT_FORMATS
from datacheck.storage.documents import exists, folder_of, join_path, load_yaml
from datacheck.text import plain
from datacheck.torch.loader.errors import warn_at_caller
from datacheck.torch.loader.lists import is_plain
from datacheck.torch.loader.screens import is_image
from datacheck.torch.loader.walker import SampleLeaf, parts_of, walk_sample
from datacheck.torch.structure import with_parts
from datacheck.torch.values import dtype_name

if TYPE_CHECKING:
    from datacheck.cleaning.fit.statistics import Statistics, StatisticsLike
    from datacheck.cleaning.plan import CleaningPlan
    from datacheck.schema.model import Schema
    from datacheck.torch.loader.sample_check import SampleCheck

    #: The path of a pipeline file, its rules as plain values, or a plan.
    CleaningLike: TypeAlias = str | os.PathLike[str] | Sequence[Mapping[str, Any]] | CleaningPlan


def build_repairer(cleaning: CleaningLike, statistics: StatisticsLike | None, schema: Schema) -> Repairer:
    """Load rules and statistics. Raises ``PipelineError``, ``CleaningError`` and ``UsageError``."""
    from datacheck.cleaning.fit.statistics import load_statistics

    learned = None if statistics is None else load_statistics(statistics)
    return Repairer(_load_cleaning(cleaning), learned, schema)


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
        beside = join_path(folder_of(cleaning), reference)
        return beside if exists(beside) else reference
    return reference


@dataclass
class Repairer:
    """Repairs samples by a cleaning plan for rows of files."""

    plan: CleaningPlan
    statistics: Statistics | None
    schema: Schema

    def __post_init__(self) -> None:
        from datacheck.cleaning.plan import is_learned
        from datacheck.cleaning.rules import Impute
        from datacheck.cleaning.validate_plan import name_of_nameless

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
            if None not in self.schema.fields and len(self.schema.fields) == 1:
                # In an array file the only field of the schema has no name, in samples it may have.
                self.statistics = self.statistics.for_array(next(iter(self.schema.fields)) or "")
        self._named = replace(self.plan, nameless=name_of_nameless({None: ""}, self.schema))
        self._unrepaired: set[str] = set()

    def repair(self, sample: Any, findings: Sequence[Finding], sample_check: SampleCheck) -> Any:
        """A copy of the sample with its bad values replaced; None if the rules cannot repair it.

        Findings may remain only where a ``report`` rule accepts them.
        """
        from datacheck.cleaning.plan import Action
        from datacheck.cleaning.repairs import apply_repairs

        if not all(self._may_keep(finding) for finding in findings):
            return None
        found = [one for one in walk_sample(sample, lists=sample_check.lists) if _can_change(one)]
        columns = tuple(one.column for one in found if one.column is not None)
        batch = Batch(columns, 1)
        try:
            repaired, _ = apply_repairs(batch, self._plan_for(batch), self.schema, self.statistics)
        except CleaningError as error:
            if str(error) not in self._unrepaired:
                self._unrepaired.add(str(error))
                warn_at_caller(f"a sample could not be repaired: {error}")
            return None
        pairs = zip(columns, repaired.columns, strict=True)
        changed = {new.name: new.data for old, new in pairs if new is not old}
        result = _replace_values(sample, changed)
        if sample_check.is_clean(result):
            return result
        left = sample_check.beyond_tolerances(sample_check.find_violations(result, "", 0))
        return result if all(self._named.decide(one.field, one.code) is Action.REPORT for one in left) else None

    def _may_keep(self, finding: Finding) -> bool:
        """Whether the sample may be kept; where rules are about single columns, that is known after the repair."""
        from datacheck.cleaning.plan import Action
        from datacheck.cleaning.validate_plan import part_paths

        paths = (finding.field, *part_paths(finding.field, self.schema))
        return any(self._named.decide(path, finding.code) in (Action.REPAIR, Action.REPORT) for path in paths)

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


def _replace_values(sample: Any, values: Mapping[str | None, Any]) -> Any:
    """A copy of ``sample`` with the one-row columns in ``values``, by path, in place of its own values.

    The sample itself is not changed, since the dataset may keep it.
    """
    return _rewrite(None, sample, values) if values else sample


def _rewrite(path: str | None, value: Any, values: Mapping[str | None, Any]) -> Any:
    if path in values:
        return _converted(value, values[path])
    parts = None if isinstance(value, torch.Tensor | np.ndarray | np.generic) else parts_of(value)
    if parts is None:
        return value
    new: dict[str, Any] = {}
    for name, part in parts:
        rewritten_part = _rewrite(f"{path}.{name}" if path is not None else name, part, values)
        if rewritten_part is not part:
            new[name] = rewritten_part
    return with_parts(value, new) if new else value


def _converted(before: Any, column: Any) -> Any:
    """The one row of a column as a value of the original type."""
    if not isinstance(column, np.ndarray):
        value = column[0].as_py()
        return tuple(value) if isinstance(before, tuple) else value
    after = column[0]
    if isinstance(before, torch.Tensor):
        return _tensor_like(before, np.ascontiguousarray(after))
    if is_image(type(before)):
        image = before.copy()
        image.putdata(np.asarray(after).reshape(-1).tolist())
        return image
    if isinstance(before, np.ndarray):
        return np.asanyarray(after).reshape(before.shape)
    if isinstance(before, np.generic):
        return np.asarray(after)[()]
    return np.asarray(after).tolist()


def _tensor_like(before: torch.Tensor, array: np.ndarray[Any, Any]) -> torch.Tensor:
    tensor = torch.from_numpy(array.copy())
    if dtype_name(before.dtype) in FLOAT_FORMATS:
        tensor = tensor.view(before.dtype)
    tensor = tensor.reshape(before.shape).to(before.device, before.dtype).as_subclass(type(before))
    return tensor.requires_grad_(before.requires_grad) if before.requires_grad else tensor
