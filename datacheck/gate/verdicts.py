"""Verdicts in the cache: their keys and their JSON. Keys hold no path: equal content has one verdict, wherever it is."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from datacheck import _version
from datacheck._version import __version__
from datacheck.codes import CODES
from datacheck.findings import Finding
from datacheck.jobs.file_verdict import ColumnSummary, FileVerdict
from datacheck.schema.builtin_checks import BUILTIN_CHECKS, canonical_check
from datacheck.schema.model import Schema
from datacheck.sources.discover import InputFile

#: The version of the keys and the JSON below.
_VERSION = 3
_DISTRIBUTION = "datacheck-ml"


def digest_rules(schema: Schema) -> str | None:
    """Identifies the schema and the versions of all libraries that check it.

    None if the schema runs user code (pandera models, registered checks), which may change without notice.
    """
    if schema.pandera is not None or schema.pandera_object is not None:
        return None
    if schema.own_checks or any(field.own_checks for field in schema.fields.values()):
        return None
    if any(canonical_check(name) not in BUILTIN_CHECKS for field in schema.fields.values() for name in field.checks):
        return None
    # Most scans have no schema, and building pydantic's serializer takes longer than a small scan.
    stated = schema.model_dump(mode="json", exclude_defaults=True) if schema.model_fields_set else {}
    return _digest(_VERSION, _versions(), stated)


def file_key(rules: str, file: InputFile, content: str) -> str:
    """The key of a file's verdict. The suffixes determine how it is read; ``options`` may add columns from its folders."""
    return f"file:{_digest(rules, content, Path(file.uri.lower()).suffixes, file.options)}"


def cross_file_key(file_keys: Sequence[str]) -> str:
    """The key of the findings across files, in this order."""
    return f"set:{_digest(*file_keys)}"


def is_cacheable(verdict: FileVerdict) -> bool:
    """Whether the verdict depends only on the file's content."""
    return all(CODES[finding.code].cacheable for finding in verdict.findings)


def verdict_to_json(verdict: FileVerdict) -> dict[str, Any]:
    """A verdict as plain JSON values."""
    return {
        "num_rows": verdict.num_rows,
        "num_bytes": verdict.num_bytes,
        "findings": [_without_uri(finding) for finding in verdict.findings],
        "columns": verdict.columns,
    }


def verdict_from_json(record: Any, uri: str) -> FileVerdict | None:
    """Read what :func:`verdict_to_json` wrote, for the file ``uri``; None for anything else."""
    try:
        findings = tuple(Finding.from_dict({**finding, "uri": uri}) for finding in record["findings"])
        columns = tuple(ColumnSummary(*column) for column in record["columns"])
        return FileVerdict(uri, findings, int(record["num_rows"]), int(record["num_bytes"]), columns)
    except (KeyError, TypeError, ValueError):
        return None


def cross_file_to_json(findings: Sequence[Finding], files: Sequence[InputFile]) -> list[dict[str, Any]]:
    """Findings across files as plain JSON values, with the position of each one's file."""
    positions = {file.uri: position for position, file in enumerate(files)}
    return [{**_without_uri(finding), "file": positions[finding.uri]} for finding in findings]


def cross_file_from_json(records: Any, files: Sequence[InputFile]) -> tuple[Finding, ...] | None:
    """Read what :func:`cross_file_to_json` wrote; None for anything else."""
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
    """The versions of Python, datacheck and every library that it depends on."""
    try:
        lines = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        lines = ["numpy", "pandas", "pandera", "pyarrow", "safetensors", "torch"]
    names = sorted({_name(line) for line in lines} - {_DISTRIBUTION})
    own = ("datacheck", f"{__version__} {_source_stamp()}")
    installed = _installed_versions()
    return (
        ("python", platform.python_version()),
        own,
        *((name, installed.get(_normalized(name), "")) for name in names),
    )


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ (]", requirement, maxsplit=1)[0]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed_versions() -> dict[str, str]:
    """The version of every installed distribution, from the names of their folders: ``numpy-2.4.0.dist-info``.

    ``importlib.metadata`` would parse the whole description of each.
    """
    versions: dict[str, str] = {}
    for folder in sys.path:
        with suppress(OSError):
            for entry in Path(folder).iterdir():
                if entry.suffix in (".dist-info", ".egg-info"):
                    name, _, version = entry.stem.partition("-")
                    versions.setdefault(_normalized(name), version)
    return versions


def _source_stamp() -> str:
    """Identifies the state of the source code in a checkout of datacheck; empty for an installed package."""
    package = Path(_version.__file__).parent
    if not (package.parent / "pyproject.toml").is_file():
        return ""
    states = []
    for folder, _, names in os.walk(package):
        for name in names:
            if name.endswith(".py"):
                state = Path(folder, name).stat()
                states.append((f"{folder}/{name}", state.st_size, state.st_mtime_ns))
    return _digest(sorted(states))
