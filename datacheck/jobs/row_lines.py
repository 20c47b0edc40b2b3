"""The lines of text files on which rows begin, for findings that know only rows: those about the dataset or a whole file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.formats import format_of_name
from datacheck.sources.base import WorkUnit
from datacheck.sources.detect import get_source, inspect_input
from datacheck.sources.discover import InputFile
from datacheck.sources.error_translation import translate_bugs


def with_lines(findings: Iterable[Finding], units: Mapping[str, Sequence[WorkUnit]]) -> list[Finding]:
    """The findings, with the line of each row that is named in a text file among those with these ``units``.

    The files are read again, up to the last of these rows, only if there is such a finding. One that cannot be read gives
    no lines.
    """
    listed = list(findings)
    rows: dict[str, set[int]] = {}
    for finding in listed:
        rows.setdefault(finding.uri, set()).update(
            example.row for example in finding.examples if example.row is not None and example.line is None
        )
    lines = {uri: _find_lines(units[uri], wanted) for uri, wanted in rows.items() if wanted and _has_lines(uri, units)}
    return [_with_lines(finding, lines.get(finding.uri, {})) for finding in listed]


def lines_of_files(findings: Iterable[Finding], files: Iterable[InputFile]) -> list[Finding]:
    """As :func:`with_lines`, for files whose units are not known yet."""
    listed = list(findings)
    uris = {one.uri for one in listed if any(shown.row is not None and shown.line is None for shown in one.examples)}
    units: dict[str, Sequence[WorkUnit]] = {}
    for file in files:
        if file.uri in uris and _is_text(file.uri):
            with suppress(SourceError), translate_bugs(file.uri):
                units[file.uri] = inspect_input(file).units
    return with_lines(listed, units)


def _is_text(uri: str) -> bool:
    """Whether a file has lines. Only formats of text say no dtypes."""
    record = format_of_name(uri)
    return record is None or (record.is_tabular and not record.has_dtypes)


def _has_lines(uri: str, units: Mapping[str, Sequence[WorkUnit]]) -> bool:
    return uri in units and _is_text(uri)


def _find_lines(units: Sequence[WorkUnit], rows: set[int]) -> dict[int, int]:
    left, found = set(rows), dict[int, int]()
    with suppress(SourceError), translate_bugs(units[0].uri):
        for unit in units:
            for batch in get_source(unit.format).read(unit):
                if not batch.has_lines:
                    return found
                found |= {row: line for row in left if (line := batch.line_of(row)) is not None}
                left -= found.keys()
                if not left:
                    return found
    return found


def _with_lines(finding: Finding, lines: Mapping[int, int]) -> Finding:
    if not lines:
        return finding
    examples = tuple(
        replace(shown, line=lines.get(shown.row)) if shown.line is None and shown.row is not None else shown
        for shown in finding.examples
    )
    return replace(finding, examples=examples)
