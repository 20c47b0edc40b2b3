"""All settings, with their names in ``pyproject.toml`` and ``datacheck.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from datacheck.codes import CODES, OWN_CODE, codes_with_prefix
from datacheck.errors import nearest_name
from datacheck.findings import Severity
from datacheck.gate.patterns import pattern_problem
from datacheck.jobs.reading import Reading
from datacheck.profile.compare.thresholds import Thresholds
from datacheck.reports.formats import FORMATS
from datacheck.schema.tolerances import Tolerances
from datacheck.sources.base import ReadOptions, RowsAre
from datacheck.text import plain

Color = Literal["auto", "always", "never"]

#: Field name or pattern -> limits by code. None stands for an unnamed array.

_NAMES = {code.name: code.code for code in CODES.values()}


def _known_code(prefix: str) -> str:
    """Validate a code or a prefix of one."""
    upper = prefix.upper()
    if (upper.startswith("DC") and codes_with_prefix(upper)) or OWN_CODE.fullmatch(upper):
        return upper
    if prefix.lower() in _NAMES:
        raise ValueError(f"write {_NAMES[prefix.lower()]} instead of {prefix!r}")
    near = nearest_name(upper, CODES) if len(upper) > 4 else ""
    hint = near or "; expected a code such as DC101 or a prefix such as DC1 ('datacheck explain' lists all codes)"
    raise ValueError(f"unknown code {plain(prefix)!r}{hint}")


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"unknown report format {plain(name)!r}{nearest_name(name, FORMATS)}")
    return name


def _known_pattern(pattern: str) -> str:
    problem = pattern_problem(pattern)
    if problem is not None:
        raise ValueError(problem)
    return pattern


def _not_empty(text: str) -> str:
    """Reject an empty path, perhaps an unset shell variable, which would otherwise mean the current folder."""
    if not text.strip():
        raise ValueError("is empty; give a value, or leave it out")
    return text


def _at_least_one(codes: tuple[str, ...]) -> tuple[str, ...]:
    if not codes:
        raise ValueError("is empty, so no finding would count; leave it out to select all codes")
    return codes


def _as_list(value: Any) -> Any:
    """Accept a single string for a list of one."""
    return [value] if isinstance(value, str) else value


CodePrefix = Annotated[str, AfterValidator(_known_code)]
Codes = Annotated[tuple[CodePrefix, ...], BeforeValidator(_as_list)]
Name = Annotated[str, AfterValidator(_not_empty)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_list)]
Pattern = Annotated[str, AfterValidator(_known_pattern)]


class Settings(BaseModel):
    """The settings from one place: a file, the environment, or a command line.

    Attributes:
        paths: what to check if no path is given.
        schema_: the schema of every file that no pattern in ``schemas`` matches.
        schemas: path pattern -> schema. The first matching pattern decides.
        exclude: path patterns of files to skip.
        select, ignore: codes, or prefixes of codes, that count and that do not. The longer prefix wins.
        severity: code or prefix -> ``error``, ``warning`` or ``info``.
        tolerances: field name or pattern -> the violations to allow in each file: ``3``, ``'0.5%'``, or a mapping of
            codes to such limits.
        notes: whether to look for what looks wrong and no rule forbids, in a second pass.
        baseline: the file of known findings. ``false`` disables it.
        cache: whether to reuse verdicts on unchanged files.
        cache_dir: the folder of cached verdicts.
        format: the format of the printed report.
        color: whether to color text.
        workers: how many units of work run at the same time.
        rows: ``file`` if each file of arrays is one sample, ``first-axis`` if it holds many along its first axis.
        compare: thresholds of ``datacheck compare``.
        reading: how files are read: the delimiter, the decimal mark and so on of text tables, and limits.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=False, hide_input_in_errors=True, defer_build=True
    )

    SYNONYMS: ClassVar[Mapping[str, str]] = {
        "cache_dir": "'cache-dir'",
        "excludes": "'exclude'",
        "per-path-schemas": "'schemas'",
        "mostly": "'tolerances'",
        "tolerance": "'tolerances'",
        "colour": "'color'",
        "extend-select": "'select'",
        "extend-ignore": "'ignore'",
        "output-format": "'format'",
    }

    paths: Names = ()
    schema_: Name | None = Field(default=None, alias="schema")
    schemas: dict[Pattern, Name] = {}
    exclude: Annotated[tuple[Pattern, ...], BeforeValidator(_as_list)] = ()
    select: Annotated[Codes, AfterValidator(_at_least_one)] = ("DC",)
    ignore: Codes = ()
    severity: dict[CodePrefix, Severity] = {}
    tolerances: Tolerances = {}
    notes: bool = False
    baseline: Name | Literal[False] | None = None
    cache: bool = True
    cache_dir: Name | None = Field(default=None, alias="cache-dir")
    format: Annotated[str, AfterValidator(_known_format)] = "text"
    color: Color = "auto"
    workers: Annotated[int, Field(ge=1)] | None = None
    rows: RowsAre | None = None
    compare: Thresholds = Thresholds.model_construct()
    reading: Reading = Reading.model_construct()

    @property
    def read_options(self) -> ReadOptions:
        """How files are read."""
        return replace(self.reading.options, rows=self.rows)
