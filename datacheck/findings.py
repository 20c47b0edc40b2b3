"""A finding: what is wrong, where, how many of how many, with a few examples. It never contains the data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import NoneType
from typing import Any

from datacheck.codes import CODES, Family
from datacheck.index_counts import IndexCounts
from datacheck.row_spread import RowSpread
from datacheck.text import count, ordinal_list, plain, quantity

#: The number of examples in a finding: the first ones in row order.
MAX_EXAMPLES = 5
#: The number of words that a message shows.
_MAX_WORDS = 3


#: The number of values in a message.
MAX_SHOWN = 3
#: The number of problems with parts of a file that one finding has, and what is between them.
_MAX_PROBLEMS, _ALSO = 20, "; also: "
#: Values that a message shows without quotes.
_PLAIN = re.compile(r"null|True|False|[-+]?(nan|inf|[0-9.]+(e[-+]?[0-9]+)?)|[-+0-9.e]*(nan|inf)?[-+0-9.e]*j")


class Severity(StrEnum):
    """The severity of a finding: only an ``error`` makes a report not ok."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


def typed(value: Any, *kinds: type) -> Any:
    """A value of a file that may be damaged, if it is of one of these types."""
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, got {plain(repr(value), 40)}")
    return value


@dataclass(frozen=True, slots=True)
class Example:
    """One violating value.

    ``row`` counts from 0 within the file (within the array, if arrays of unequal length share a file). It is None where
    the whole file is one sample, or where there is no row. ``index`` is the position inside the row's value (``()`` for a
    scalar), and ``value`` is the value as a string (``"nan"``, ``"-inf"``, ``"null"``, ``"-5.0"``). ``line`` is the line
    of a text file, from 1, on which the row begins; ``member`` is the name of the sample or its member in an archive.
    """

    row: int | None
    row_group: int | None = None
    index: tuple[int, ...] = ()
    value: str = ""
    line: int | None = None
    member: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "row_group": self.row_group,
            "index": list(self.index),
            "value": self.value,
            **({} if self.line is None else {"line": self.line}),
            **({} if self.member is None else {"member": self.member}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Example:
        """Build an example from the output of :meth:`to_dict`; raises as :meth:`Finding.from_dict` does."""
        return cls(
            typed(record["row"], int, NoneType),
            typed(record["row_group"], int, NoneType),
            tuple(typed(step, int) for step in typed(record["index"], list, tuple)),
            typed(record["value"], str),
            typed(record.get("line"), int, NoneType),
            typed(record.get("member"), str, NoneType),
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One code in one field of one file.

    ``num_violations`` of ``num_checked`` values break the rule: values for a rule on values, rows for a rule on rows.
    NaN, infinities and bounds are counted over the values that are present, nulls over all. ``num_rows`` is the number
    of rows with violations, None if it is unknown. ``spread`` says how they are spread over the file, and ``by_index``
    which columns of an array they fill. ``rule`` distinguishes custom rules under one code (a named expression, a
    pandera check). ``detail`` says what was expected, or what went wrong.
    """

    code: str
    uri: str
    field: str | None = None
    num_violations: int = 0
    num_checked: int = 0
    examples: tuple[Example, ...] = ()
    rule: str | None = None
    detail: str = ""
    severity: Severity | None = None
    num_rows: int | None = None
    spread: RowSpread | None = None
    by_index: IndexCounts | None = None

    def __post_init__(self) -> None:
        if self.severity is None:
            object.__setattr__(self, "severity", Severity(CODES[self.code].severity))

    @property
    def name(self) -> str:
        """The name of the code, such as ``nan``."""
        return CODES[self.code].name

    @property
    def line(self) -> int | None:
        """The line of a text file, from 1, on which the first row with a violation begins."""
        return next((example.line for example in self.examples if example.line is not None), None)

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    @property
    def key(self) -> tuple[str, str, str, str]:
        """The key under which findings are merged: file, field, code and, for custom rules, the rule."""
        return (self.uri, self.field or "", self.code, self.rule or "")

    @property
    def message(self) -> str:
        """The finding in one line, without its code: what, how many of how many, which field, and where."""
        return self.describe()

    def describe(self, more_rows: bool | None = None) -> str:
        """The message; ``more_rows`` says whether rows other than the examples have violations, if that is known."""
        code = CODES[self.code]
        field = code.nameless_field if self.field is None else f"'{plain(self.field)}'"
        parts = {
            "violations": count(self.num_violations),
            "checked": count(self.num_checked),
            "field": field,
            # It may name many parts of the file.
            "detail": plain(self.detail, 4000 if code.family is Family.UNREADABLE else 400),
            "first": ", the first" if self.num_violations > 1 else "",
            "rule": plain(self.rule or "", 120),
        }
        is_of_values = code.message_of_values and any(example.value for example in self.examples)
        message = code.message_of_values if is_of_values else code.message
        text = message.format_map(parts) + (self._words() if code.shows_words else "")
        if self.detail and "{detail}" not in message:
            text = f"{text}: {parts['detail']}"
        if self.num_rows is not None and self.num_rows != self.num_violations:
            text = f"{text}, in {quantity(self.num_rows, 'row')}"
        if columns := self.by_index.whole(self.num_checked) if self.by_index is not None else []:
            text = f"{text}, including all values at {ordinal_list('index', columns, False)} of the last axis"
        if code.shows_values:
            text = f"{text}{self._found()}"
        location = self._location(more_rows)
        return f"{text} ({location})" if location else text

    def _words(self) -> str:
        words = list(dict.fromkeys(example.value for example in self.examples))
        return ", such as " + ", ".join(f"'{word}'" for word in words[:_MAX_WORDS]) if words else ""

    def _found(self) -> str:
        """The first different values that violate the rule."""
        values = list(dict.fromkeys(example.value for example in self.examples if example.value))
        if not values:
            return ""
        if CODES[self.code].level == "row":
            return f": found {plain(values[0])}"
        shown = [value if _PLAIN.fullmatch(value) else f"'{plain(value, 80)}'" for value in values[:MAX_SHOWN]]
        is_more = len(values) > MAX_SHOWN or (len(values) > 1 and self.num_violations > len(self.examples))
        return f": found {', '.join(shown)}{', …' if is_more else ''}"

    def _location(self, more_rows: bool | None) -> str:
        uri = plain(self.uri)
        with_rows = [example for example in self.examples if example.row is not None]
        if not with_rows:
            index = self.examples[0].index if self.examples else ()
            return f"{uri}, index {list(index)}{', …' if self.num_violations > 1 else ''}" if index else uri
        by_group: dict[int | None, list[int]] = {}
        for example in with_rows:
            rows = by_group.setdefault(example.row_group, [])
            if example.row is not None and example.row not in rows:
                rows.append(example.row)
        if more_rows is None and self.num_rows is not None:
            more_rows = self.num_rows > sum(map(len, by_group.values()))
        more = self.num_violations > len(with_rows) if more_rows is None else more_rows
        groups = [
            ("" if group is None else f"row group {group}, ")
            + ordinal_list("row", rows, more and number == len(by_group))
            for number, (group, rows) in enumerate(by_group.items(), 1)
        ]
        is_one_row = len(with_rows) == 1 or (more_rows is False and [len(rows) for rows in by_group.values()] == [1])
        index = with_rows[0].index if is_one_row else ()
        and_more = ", …" if more_rows is False and self.num_violations > 1 else ""
        lines = list(dict.fromkeys(example.line for example in with_rows if example.line is not None))
        of_lines = [ordinal_list("line", lines, more)] if lines else []
        names = list(dict.fromkeys(plain(example.member) for example in with_rows if example.member is not None))
        if names:
            rest = ", …" if more or len(names) > MAX_SHOWN else ""
            of_lines.append(f"{'member' if len(names) == 1 else 'members'} {', '.join(names[:MAX_SHOWN])}{rest}")
        return ", ".join([uri, "; ".join(groups), *of_lines, *([f"index {list(index)}{and_more}"] if index else [])])

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        assert self.severity is not None
        return {
            "code": self.code,
            "name": self.name,
            "severity": self.severity.value,
            "uri": self.uri,
            "field": self.field,
            "rule": self.rule,
            "num_violations": self.num_violations,
            "num_checked": self.num_checked,
            "num_rows": self.num_rows,
            "detail": self.detail,
            "message": self.message,
            "examples": [example.to_dict() for example in self.examples],
            **({} if self.spread is None else {"spread": self.spread.to_dict()}),
            **({} if self.by_index is None else {"by_index": self.by_index.to_dict()}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Finding:
        """Build a finding from the output of :meth:`to_dict`; raises ``KeyError``, ``TypeError`` or ``ValueError``."""
        if typed(record, Mapping)["code"] not in CODES:
            raise ValueError(f"unknown code {plain(str(record['code']), 40)}")
        return cls(
            code=record["code"],
            uri=typed(record["uri"], str),
            field=typed(record["field"], str, NoneType),
            num_violations=typed(record["num_violations"], int),
            num_checked=typed(record["num_checked"], int),
            examples=tuple(Example.from_dict(example) for example in record["examples"]),
            rule=typed(record["rule"], str, NoneType),
            detail=typed(record["detail"], str),
            severity=Severity(record["severity"]),
            num_rows=typed(record.get("num_rows"), int, NoneType),
            spread=None if record.get("spread") is None else RowSpread.from_dict(record["spread"]),
            by_index=None if record.get("by_index") is None else IndexCounts.from_dict(record["by_index"]),
        )


def _merged_detail(known: Finding, other: Finding) -> str:
    """What is said of both parts. Each part of a file that cannot be read has its own problem, of which the first are kept."""
    if CODES[known.code].family is not Family.UNREADABLE or not known.detail or not other.detail:
        return known.detail or other.detail
    problems = dict.fromkeys([*known.detail.split(_ALSO), *other.detail.split(_ALSO)])
    return _ALSO.join([*problems][:_MAX_PROBLEMS])


def _more_severe(known: Finding, other: Finding) -> Severity | None:
    """The severity of two merged findings of one rule, which may warn about some rows and fail on others."""
    if not known.num_violations or (other.num_violations and other.is_error):
        return other.severity
    return known.severity


def _sum_of_rows(known: Finding, other: Finding) -> int | None:
    """The rows with violations of both parts; None if they are unknown in one."""
    parts = [part.num_rows for part in (known, other) if part.num_violations]
    return None if None in parts else sum(filter(None, parts))


def _merged_spread(known: Finding, other: Finding) -> RowSpread | None:
    """The spread of both parts; None if it is unknown in one."""
    parts = [part.spread for part in (known, other) if part.num_violations]
    if len(parts) == 2 and parts[0] is not None and parts[1] is not None:
        return parts[0].merge(parts[1])
    return parts[0] if len(parts) == 1 else None


def _merged_by_index(known: Finding, other: Finding) -> IndexCounts | None:
    """The columns that the violations of both parts fill."""
    if known.num_violations and other.num_violations:
        return None if known.by_index is None else known.by_index.merge(other.by_index)
    return known.by_index or other.by_index


def merge_findings(findings: Iterable[Finding], *, keep_clean: bool = False) -> list[Finding]:
    """Merge findings with the same key: counts are added, the first examples kept, in order of first appearance.

    Findings without violations add to ``num_checked``; a key without any violation is dropped, unless ``keep_clean`` is
    set because more parts will be merged. If the parts of a file come in row order, the examples are the first in the
    file.
    """
    merged: dict[tuple[str, str, str, str], Finding] = {}
    for finding in findings:
        known = merged.get(finding.key)
        if known is None:
            merged[finding.key] = finding
            continue
        merged[finding.key] = replace(
            known,
            num_violations=known.num_violations + finding.num_violations,
            num_checked=known.num_checked + finding.num_checked,
            examples=(known.examples + finding.examples)[:MAX_EXAMPLES],
            detail=_merged_detail(known, finding),
            severity=_more_severe(known, finding),
            num_rows=_sum_of_rows(known, finding),
            spread=_merged_spread(known, finding),
            by_index=_merged_by_index(known, finding),
        )
    return [finding for finding in merged.values() if keep_clean or finding.num_violations]
