"""The statistics that were learned from the training split: a small versioned JSON file that names its source."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)
from pydantic import Field as ModelField

from datacheck.cleaning.plan import CleaningPlan
from datacheck.cleaning.rules import Scalar
from datacheck.errors import CleaningError, PipelineError
from datacheck.schema.validation import fault, validate
from datacheck.storage.base import Fingerprint
from datacheck.storage.documents import read_document
from datacheck.text import plain

STATISTICS_VERSION = 1
#: No statistics are larger.
_MAX_BYTES = 1 << 28

StatisticName = Literal["mean", "median", "most_frequent", "quantiles"]


@dataclass(frozen=True, slots=True)
class Learned:
    """The statistic of one rule and leaf.

    Attributes:
        exact: False for quantiles from a sketch.
        num_values: for each feature the number of values that it was learned from. There is one feature unless the rule
            is ``per_feature``.
        values: for each feature the statistic; the lower and the upper one for ``quantiles``.
    """

    rule: int
    field: str | None
    statistic: StatisticName
    per_feature: bool
    exact: bool
    num_values: tuple[int, ...]
    values: tuple[tuple[Scalar, ...], ...]


@dataclass(frozen=True, slots=True)
class LearnedFrom:
    """An input that statistics were learned from."""

    uri: str
    fingerprint: Fingerprint
    num_rows: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """All statistics of a plan, learned by :class:`~datacheck.cleaning.fit.learner.Learner`."""

    plan: str
    num_rows: int = 0
    learned: tuple[Learned, ...] = ()
    source: tuple[LearnedFrom, ...] = ()
    datacheck: str = ""
    _index: dict[tuple[int, str | None], Learned] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._index.update({(entry.rule, entry.field): entry for entry in self.learned})

    def find(self, rule: int, path: str | None) -> Learned | None:
        """The statistic of a rule, given by its index, and a leaf."""
        return self._index.get((rule, path))

    def for_array(self, name: str) -> Statistics:
        """The statistics of the nameless array of a file under a name as well."""
        named = [
            replace(entry, field=name + (entry.field or "array").removeprefix("array"))
            for entry in self.learned
            if entry.field is None or entry.field.startswith("array[")
        ]
        known = {(entry.rule, entry.field) for entry in self.learned}
        return replace(self, learned=(*self.learned, *(one for one in named if (one.rule, one.field) not in known)))

    def check_plan(self, plan: CleaningPlan, place: str = "the statistics") -> None:
        """Raise ``CleaningError`` if the statistics were learned for other rules."""
        if self.plan != plan.fingerprint:
            raise CleaningError(
                f"{place}: learned for different cleaning rules; run 'datacheck fit' again with this pipeline"
            )

    def to_json(self) -> str:
        """The statistics as JSON. Equal statistics give equal bytes, and floats round-trip."""
        head = {
            "version": STATISTICS_VERSION,
            "datacheck": self.datacheck,
            "plan": self.plan,
            "num_rows": self.num_rows,
        }
        source = [
            {
                "uri": source.uri,
                "size": source.fingerprint.size,
                "mtime_ns": source.fingerprint.mtime_ns,
                "num_rows": source.num_rows,
            }
            for source in self.source
        ]
        fields = [
            {
                "field": entry.field,
                "rule": entry.rule,
                "statistic": entry.statistic,
                "per_feature": entry.per_feature,
                "exact": entry.exact,
                "num_values": entry.num_values,
                "values": entry.values,
            }
            for entry in self.learned
        ]
        lines = [f'  "{key}": {_line(value)}' for key, value in head.items()]
        lines += [f'  "{key}": {_lines(records)}' for key, records in (("source", source), ("fields", fields))]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def from_json(cls, text: str | bytes, place: str = "the statistics") -> Statistics:
        """Read what :meth:`to_json` wrote; raises ``CleaningError``, naming ``place``, for anything else."""
        try:
            record = json.loads(text, parse_constant=_reject_constant)
        except (ValueError, RecursionError) as error:
            raise CleaningError(
                f"{place}: not a statistics file: {plain(str(error))}; run 'datacheck fit' again"
            ) from None
        version = record.get("version") if isinstance(record, dict) else None
        if version is None:
            raise CleaningError(f"{place}: not a statistics file: it has no version; run 'datacheck fit' to create one")
        if version != STATISTICS_VERSION or isinstance(version, bool):
            raise CleaningError(
                f"{place}: unsupported version {plain(repr(version), 40)}, expected {STATISTICS_VERSION}; "
                "run 'datacheck fit' again"
            )
        try:
            document = validate(_Document, record, place, PipelineError)
        except PipelineError as error:
            raise CleaningError(str(error)) from None
        return document.to_statistics()


def _line(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=True)


def _lines(records: Sequence[object]) -> str:
    """A list with one record per line, which is easier to read and diff."""
    return "[\n" + ",\n".join(f"    {_line(record)}" for record in records) + "\n  ]" if records else "[]"


def _reject_constant(token: str) -> Any:
    raise ValueError(f"{token} is not a JSON number")


def _finite(value: Scalar) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("does not fit into 64 bits")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ValueError("does not fit into 64 bits")
    return value


_Count = Annotated[StrictInt, ModelField(ge=0)]
_Value = Annotated[StrictBool | StrictInt | StrictFloat | StrictStr, AfterValidator(_finite)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _SourceRecord(_Strict):
    uri: StrictStr
    size: _Count
    mtime_ns: StrictInt
    #: No longer written, since each machine may see another.
    inode: _Count = 0
    num_rows: _Count


class _FieldRecord(_Strict):
    field: StrictStr | None
    rule: _Count
    statistic: StatisticName
    per_feature: StrictBool
    exact: StrictBool
    num_values: tuple[_Count, ...]
    values: tuple[tuple[_Value, ...], ...]

    @model_validator(mode="after")
    def _check(self) -> _FieldRecord:
        width = 2 if self.statistic == "quantiles" else 1
        if len(self.values) != len(self.num_values) or not self.values:
            raise fault("values", f"has {len(self.values)} features, but num_values has {len(self.num_values)}")
        if any(len(values) != width for values in self.values):
            raise fault("values", f"expected {width} for each feature")
        is_number = [type(value) in (int, float) for values in self.values for value in values]
        if self.statistic != "most_frequent" and not all(is_number):
            raise fault("values", f"expected numbers for the statistic {self.statistic}")
        return self


class _Document(_Strict):
    version: Literal[1]
    datacheck: StrictStr
    plan: StrictStr
    num_rows: _Count
    source: tuple[_SourceRecord, ...]
    fields: tuple[_FieldRecord, ...]

    def to_statistics(self) -> Statistics:
        learned = tuple(
            Learned(
                entry.rule, entry.field, entry.statistic, entry.per_feature, entry.exact, entry.num_values, entry.values
            )
            for entry in self.fields
        )
        source = tuple(
            LearnedFrom(entry.uri, Fingerprint(entry.size, entry.mtime_ns), entry.num_rows) for entry in self.source
        )
        return Statistics(self.plan, self.num_rows, learned, source, self.datacheck)


#: The path of a file that ``datacheck fit`` wrote, or its content.
StatisticsLike = str | os.PathLike[str] | Statistics


def load_statistics(path: StatisticsLike) -> Statistics:
    """The statistics, from their file if that is given; raises ``UsageError`` and ``CleaningError``."""
    if isinstance(path, Statistics):
        return path
    place = plain(os.fspath(path))
    content = read_document(path, "a statistics file", _MAX_BYTES, missing="create it with 'datacheck fit'")
    return Statistics.from_json(content, place)
