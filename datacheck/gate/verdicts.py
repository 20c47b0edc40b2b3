"""Verdicts to keep: under which key, and as plain JSON. They know no path: the same content anywhere is the same verdict."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datacheck import _version
from datacheck._version import __version__
from datacheck.codes import CODES
from datacheck.findings import Finding
from datacheck.jobs.file_verdict import FileVerdict
from datacheck.schema.loading import dump_schema
from datacheck.schema.model import Schema
from datacheck.schema.words import BUILTIN_CHECKS, canonical_check
from datacheck.sources.discover import InputFile

__all__ = ["file_key", "from_json", "is_kept", "rules_of", "set_findings", "set_key", "set_to_json", "to_json"]

#: The number of the form in which verdicts are kept.
_FORM = 1
_DISTRIBUTION = "datacheck-ml"


def rules_of(schema: Schema) -> str | None:
    """What tells these rules from others: the schema, and the versions of whatever holds data to it.

    None where code of somebody else is among them, which may change without notice.
    """
    if schema.pandera is not None or schema.pandera_object is not None:
        return None
    if any(canonical_check(name) not in BUILTIN_CHECKS for field in schema.fields.values() for name in field.checks):
        return None
    return _digest(_FORM, _versions(), dump_schema(schema))


def file_key(rules: str, file: InputFile, content: str) -> str:
    """The key of a file's verdict. Its suffixes say how it is read, its folders which columns are added."""
    return f"file:{_digest(rules, content, Path(file.uri.lower()).suffixes, file.options)}"


def set_key(rules: str, files: Sequence[InputFile], contents: Sequence[str]) -> str:
    """The key of what there is to say of files together, in their order."""
    return f"set:{_digest(rules, [file_key(rules, *pair) for pair in zip(files, contents, strict=True)])}"


def is_kept(verdict: FileVerdict) -> bool:
    """Whether the verdict will hold as long as the file's content does."""
    return all(CODES[finding.code].cacheable for finding in verdict.findings)


def to_json(verdict: FileVerdict) -> dict[str, Any]:
    """A verdict as plain JSON values."""
    return {
        "num_rows": verdict.num_rows,
        "num_bytes": verdict.num_bytes,
        "findings": [_without_uri(finding) for finding in verdict.findings],
    }


def from_json(record: Any, uri: str) -> FileVerdict | None:
    """The verdict that :func:`to_json` wrote, for the file ``uri``; None for anything else."""
    try:
        findings = tuple(Finding.from_dict({**finding, "uri": uri}) for finding in record["findings"])
        return FileVerdict(uri, findings, int(record["num_rows"]), int(record["num_bytes"]))
    except (KeyError, TypeError, ValueError):
        return None


def set_to_json(findings: Sequence[Finding], files: Sequence[InputFile]) -> list[dict[str, Any]]:
    """Findings about files together, as plain JSON values."""
    places = {file.uri: place for place, file in enumerate(files)}
    return [{**_without_uri(finding), "file": places[finding.uri]} for finding in findings]


def set_findings(records: Any, files: Sequence[InputFile]) -> tuple[Finding, ...] | None:
    """The findings that :func:`set_to_json` wrote; None for anything else."""
    try:
        return tuple(Finding.from_dict({**record, "uri": files[record["file"]].uri}) for record in records)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _without_uri(finding: Finding) -> Mapping[str, Any]:
    record = replace(finding, uri="").to_dict()
    for derived in ("uri", "name", "message"):
        del record[derived]
    return record


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    """Python, datacheck and every library that it names, with their versions."""
    try:
        lines = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        lines = ["numpy", "pandas", "pandera", "pyarrow", "safetensors", "torch"]
    names = sorted({_name(line) for line in lines} - {_DISTRIBUTION})
    own = ("datacheck", f"{__version__} {_source_stamp()}")
    return (("python", platform.python_version()), own, *((name, _installed_version(name)) for name in names))


def _name(requirement: str) -> str:
    end = next((place for place, character in enumerate(requirement) if character in "<>=!~;[ ("), len(requirement))
    return requirement[:end]


def _installed_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _source_stamp() -> str:
    """What tells one state of a working copy of datacheck from another; nothing for an installed one."""
    package = Path(_version.__file__).parent
    if not (package.parent / "pyproject.toml").is_file():
        return ""
    states = [(str(path), path.stat()) for path in sorted(package.rglob("*.py"))]
    return _digest([(path, state.st_size, state.st_mtime_ns) for path, state in states])
