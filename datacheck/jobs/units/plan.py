"""Everything that is the same for all units of a run, and the rules resolved for the fields of a unit."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datacheck.checks.checker import RuleSet
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import CleaningPlan
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.errors import CleaningError, PipelineError
from datacheck.schema.model import Schema

Fields = Mapping[str | None, str]


@dataclass(frozen=True, slots=True)
class ResolvedRules:
    """The cleaning plan and the checks for units with the same fields.

    ``problem`` says why the plan does not apply to these fields. It matters only once a row is kept.
    """

    plan: CleaningPlan
    checks: RuleSet
    problem: CleaningError | PipelineError | None = None

    def require_plan(self) -> CleaningPlan:
        """The plan; raises ``problem`` if there is one."""
        if self.problem is not None:
            raise self.problem
        return self.plan


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What to do with every unit of a run.

    Attributes:
        schema: the schema of the data.
        plan: the cleaning rules.
        known_fields: the fields of the first readable input. A rule may name a field that some files lack.
        statistics: what the rules learned from the training split.
        parts: the URI of the folder for the parts.
        format_options: the options of the output format.
        checks: the checks of the schema, for batches that were repaired.
    """

    schema: Schema
    plan: CleaningPlan
    known_fields: Fields
    statistics: Statistics | None = None
    parts: str = ""
    format_options: Mapping[str, Any] = field(default_factory=dict)
    checks: RuleSet = field(init=False, repr=False, compare=False)
    _key: str = field(default_factory=lambda: uuid.uuid4().hex, init=False, repr=False, compare=False)
    _resolved: dict[tuple[Any, ...], ResolvedRules] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "checks", RuleSet(self.schema))

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.schema, self.plan, self.known_fields, self.statistics, self.parts, self.format_options)
        return _receive, (self._key, *given)

    def resolve(self, fields: Fields) -> ResolvedRules:
        """The rules for units with these fields (leaf paths and logical dtypes). They are resolved once per set of fields."""
        key = tuple(fields.items())
        resolved = self._resolved.get(key)
        if resolved is None:
            resolved = self._resolved[key] = self._resolve(fields)
        return resolved

    def _resolve(self, fields: Fields) -> ResolvedRules:
        try:
            plan = validate_plan(self.plan, {**self.known_fields, **fields}, self.schema)
        except (CleaningError, PipelineError) as error:
            return ResolvedRules(self.plan, RuleSet(self.schema, self.plan.requested_codes), error)
        return ResolvedRules(plan, RuleSet(self.schema, plan.requested_codes))


#: The plan that this process received last, by its key. Each unit of a run brings it, and its rules are resolved once.
_received: dict[str, UnitPlan] = {}


def _receive(key: str, *given: Any) -> UnitPlan:
    plan = _received.get(key)
    if plan is None:
        plan = UnitPlan(*given)
        object.__setattr__(plan, "_key", key)
        _received.clear()
        _received[key] = plan
    return plan
