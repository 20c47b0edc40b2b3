"""What can be set, with the names that ``pyproject.toml`` and ``datacheck.yaml`` use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from datacheck.codes import CODES, codes_with_prefix
from datacheck.errors import nearest_name
from datacheck.findings import Severity
from datacheck.gate.limits import Limit
from datacheck.gate.patterns import pattern_problem
from datacheck.profile.compare.thresholds import Thresholds
from datacheck.reports.formats import FORMATS
from datacheck.schema.validation import fault
from datacheck.text import plain

__all__ = ["Color", "Settings", "Tolerances"]

Color = Literal["auto", "always", "never"]

#: Field, or a pattern of fields, to limits by code; the nameless array is None.
Tolerances = Mapping[str | None, Mapping[str, Limit]]

_NAMES = {code.name: code.code for code in CODES.values()}
_TOLERABLE = {number: code for number, code in CODES.items() if code.tolerable}


def _known_code(prefix: str) -> str:
    """A code, or the beginning of one, of which there is at least one."""
    upper = prefix.upper()
    if upper.startswith("DC") and codes_with_prefix(upper):
        return upper
    if prefix.lower() in _NAMES:
        raise ValueError(f"write {_NAMES[prefix.lower()]} for {prefix!r}")
    near = nearest_name(upper, CODES) if len(upper) > 4 else ""
    hint = near or "; write a code such as DC101, or the beginning of one such as DC1 ('datacheck explain' lists them)"
    raise ValueError(f"there is no code {plain(prefix)!r}{hint}")


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise ValueError(f"unknown report format {plain(name)!r}{nearest_name(name, FORMATS)}")
    return name


def _known_pattern(pattern: str) -> str:
    problem = pattern_problem(pattern)
    if problem is not None:
        raise ValueError(problem)
    return pattern


def _named(text: str) -> str:
    """What is not there by mistake, such as an unset variable of a script, must not be taken for the current folder."""
    if not text.strip():
        raise ValueError("is empty; name it, or leave it out")
    return text


def _some(codes: tuple[str, ...]) -> tuple[str, ...]:
    if not codes:
        raise ValueError("names no code, so nothing would count; leave it out to select all")
    return codes


def _as_list(value: Any) -> Any:
    """A single text stands for a list of one."""
    return [value] if isinstance(value, str) else value


def _parse_tolerances(written: Any) -> Tolerances:
    if not isinstance(written, Mapping):
        raise ValueError("must be a mapping of fields to limits, such as {gust = '5%'}")
    # TOML has no null, so the nameless array of an .npy is the empty name there.
    return {field or None: _limits_of(field, limits) for field, limits in written.items()}


def _limits_of(field: str | None, written: Any) -> Mapping[str, Limit]:
    """Limits by code; a limit alone is for every code that can be tolerated."""
    by_code = written if isinstance(written, Mapping) else dict.fromkeys(_TOLERABLE, written)
    limits: dict[str, Limit] = {}
    for code, limit in by_code.items():
        place = (field, code) if isinstance(written, Mapping) else (field,)
        try:
            known = _known_code(code)
            limits[known] = Limit.parse(limit)
        except ValueError as error:
            raise fault(place, str(error)) from None
        if not codes_with_prefix(known) & _TOLERABLE.keys():
            problem = f"{known} counts no values, so nothing of it can be tolerated; use 'ignore' or 'severity'"
            raise fault(place, problem)
    return limits


CodePrefix = Annotated[str, AfterValidator(_known_code)]
Codes = Annotated[tuple[CodePrefix, ...], BeforeValidator(_as_list)]
Name = Annotated[str, AfterValidator(_named)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_as_list)]
Pattern = Annotated[str, AfterValidator(_known_pattern)]


class Settings(BaseModel):
    """The settings of one place: a file, the environment, a command line. What it does not set, others may.

    Attributes:
        paths: what is checked where no path is given.
        schema_: the schema of every file that no pattern of ``schemas`` matches.
        schemas: pattern of paths to schema; the first pattern that matches a file decides.
        exclude: patterns of paths that are left out.
        select, ignore: codes, or their beginnings, that count and that do not; the longer one decides.
        severity: code, or its beginning, to ``error``, ``warning`` or ``info``.
        tolerances: field, or a pattern of fields, to how many violations of it are let through in a file: ``3``,
            ``'0.5%'``, or a mapping of codes to such limits.
        baseline: the file of findings that are known; ``false`` for none.
        cache: whether verdicts of files are kept.
        cache_dir: where they are kept.
        format: how the report is printed.
        color: whether text is coloured.
        workers: how many parts are worked on at a time.
        compare: thresholds of ``datacheck compare``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False, hide_input_in_errors=True)

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
    select: Annotated[Codes, AfterValidator(_some)] = ("DC",)
    ignore: Codes = ()
    severity: dict[CodePrefix, Severity] = {}
    tolerances: Annotated[Tolerances, PlainValidator(_parse_tolerances)] = {}
    baseline: Name | Literal[False] | None = None
    cache: bool = True
    cache_dir: Name | None = Field(default=None, alias="cache-dir")
    format: Annotated[str, AfterValidator(_known_format)] = "text"
    color: Color = "auto"
    workers: Annotated[int, Field(ge=1)] | None = None
    compare: Thresholds = Thresholds()
