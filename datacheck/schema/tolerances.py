"""Tolerances: an allowed number of violations, or an allowed percentage of the values, by field and code."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from datacheck.codes import CODES, OWN_CODE, codes_with_prefix, value_by_prefix
from datacheck.errors import nearest_name
from datacheck.findings import Finding, Severity
from datacheck.schema.validation import fault
from datacheck.text import plain

_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*%")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``number`` violations, or at most ``percent`` percent of the checked values. One of the two is set."""

    number: int | None = None
    percent: Fraction | None = None

    @classmethod
    def parse(cls, written: Any) -> Limit:
        """Parse ``3`` or ``'0.5%'``. Raises ``ValueError``."""
        if isinstance(written, Limit):
            return written
        if isinstance(written, int) and not isinstance(written, bool) and written >= 0:
            return cls(number=written)
        if isinstance(written, str):
            if written.strip().isdecimal():
                return cls(number=int(written))
            match = _PERCENTAGE.fullmatch(written.strip())
            if match is not None and (percent := Fraction(match[1])) <= 100:
                return cls(percent=percent)
        hint = ""
        if isinstance(written, float) and 0 < written < 1:
            hint = f"; did you mean '{written * 100:g}%'?"
        raise ValueError(f"must be a number of violations such as 3, or a percentage such as '0.5%'{hint}")

    def admits(self, finding: Finding) -> bool:
        """Whether a finding is within the limit."""
        if self.number is not None:
            return finding.num_violations <= self.number
        percent = self.percent or Fraction(0)
        return finding.num_violations * 100 <= percent * finding.num_checked

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.number:,}"
        return f"{float(self.percent or 0):g} %"

    @property
    def written(self) -> int | str:
        """The limit as a file writes it."""
        return self.number if self.number is not None else f"{float(self.percent or 0):.9g}%"


#: Limits by field (None: the unnamed array) or pattern of fields, and by code or prefix of one.
TolerancesByField = Mapping[str | None, Mapping[str, Limit]]

_TOLERABLE = frozenset(number for number, code in CODES.items() if code.tolerable)


def parse_tolerances(written: Any) -> TolerancesByField:
    """Tolerances as written in a file."""
    if not isinstance(written, Mapping):
        raise ValueError("must be a mapping of fields to limits, such as {gust: '5%'}")
    # TOML has no null: there the unnamed array of an .npy file is the empty name.
    return {field or None: _parse_limits(field, limits) for field, limits in written.items()}


def _parse_limits(field: str | None, written: Any) -> Mapping[str, Limit]:
    """Limits by code. A limit without codes applies to every tolerable code."""
    by_code = written if isinstance(written, Mapping) else dict.fromkeys(sorted(_TOLERABLE), written)
    limits: dict[str, Limit] = {}
    for code, limit in by_code.items():
        place = (field, code) if isinstance(written, Mapping) else (field,)
        try:
            known = _known_code(code)
            limits[known] = Limit.parse(limit)
        except ValueError as error:
            raise fault(place, str(error)) from None
        if not (codes_with_prefix(known) & _TOLERABLE or OWN_CODE.fullmatch(known)):
            problem = f"{known} does not count values, so it has no tolerance; use 'ignore' or 'severity'"
            raise fault(place, problem)
    return limits


def _known_code(prefix: Any) -> str:
    upper = str(prefix).upper()
    if (upper.startswith("DC") and codes_with_prefix(upper)) or OWN_CODE.fullmatch(upper):
        return upper
    near = nearest_name(upper, CODES) if len(upper) > 4 else ""
    hint = near or "; expected a code such as DC101 or a prefix such as DC1 ('datacheck explain' lists all codes)"
    raise ValueError(f"unknown code {plain(str(prefix))!r}{hint}")


def apply_tolerances(findings: Iterable[Finding], tolerances: TolerancesByField) -> list[Finding]:
    """The findings; one within its tolerance is a note."""
    return [apply_tolerance(finding, tolerances) for finding in findings]


def apply_tolerance(finding: Finding, tolerances: TolerancesByField) -> Finding:
    """The finding, or a note if it is within its tolerance."""
    limit = _find_limit(finding, tolerances)
    if limit is None or not limit.admits(finding) or finding.severity is Severity.INFO:
        return finding
    within = f"within the tolerance of {limit}"
    detail = f"{finding.detail}; {within}" if finding.detail else within
    return replace(finding, severity=Severity.INFO, detail=detail)


def is_tolerated_in_sample(finding: Finding, tolerances: TolerancesByField) -> bool:
    """Whether what was found in one sample is within its tolerance. A sample with no good value never is."""
    limit = _find_limit(finding, tolerances) if tolerances else None
    return limit is not None and limit.admits(finding) and finding.num_violations < finding.num_checked


def _find_limit(finding: Finding, tolerances: TolerancesByField) -> Limit | None:
    """The limit for the finding's field: by its exact name, or else by the first matching pattern."""
    if finding.field in tolerances:
        return value_by_prefix(finding.code, tolerances[finding.field])
    for pattern, limits in tolerances.items():
        if pattern is not None and fnmatch.fnmatchcase(finding.field or "", pattern):
            return value_by_prefix(finding.code, limits)
    return None


def _as_written(tolerances: TolerancesByField) -> dict[str, Any]:
    return {
        field or "": {code: limit.written for code, limit in limits.items()} for field, limits in tolerances.items()
    }


_LIMIT = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}
Tolerances = Annotated[
    TolerancesByField,
    PlainValidator(parse_tolerances),
    PlainSerializer(_as_written),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"anyOf": [*_LIMIT["anyOf"], {"type": "object", "additionalProperties": _LIMIT}]},
        }
    ),
]
