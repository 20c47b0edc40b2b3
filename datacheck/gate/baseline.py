"""The baseline: known findings in a committed file. Only new findings, and known ones that have grown, fail.

A file is identified by its content, wherever it is, and by its path, whatever it holds. So a moved file keeps its known
findings, and a new version of a file is compared with the counts of the old one. Equal findings give equal bytes, and keys
are sorted, so that a change can be reviewed.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datacheck.codes import CODES, Family
from datacheck.errors import ConfigurationError
from datacheck.findings import Finding, Severity
from datacheck.gate.patterns import relative_to
from datacheck.publishing.named_file import write_named
from datacheck.reports.gate_report import Fixed
from datacheck.reports.text import append_detail
from datacheck.storage.documents import exists, is_uri, read_document
from datacheck.text import count, plain

_VERSION = 1
_MAX_BYTES = 256 << 20

#: Field, code and rule of a finding.
Identity = tuple[str | None, str, str | None]
#: The known number of violations of each finding in a file.
Counts = Mapping[Identity, int]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """The known findings in one file. ``content`` is a hash of its content, None if it could not be read."""

    content: str | None
    counts: Counts


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """What was checked: the files, the paths that they came from, and all findings, selected or not.

    ``content_hash`` is called only if the path of a file does not answer what is known about it.
    """

    uris: Sequence[str]
    roots: Sequence[str]
    findings: Sequence[Finding]
    content_hash: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Findings that are new or have grown, known findings, and known findings with fewer violations or none."""

    new: tuple[Finding, ...]
    known: tuple[Finding, ...] = ()
    fixed: tuple[Fixed, ...] = ()


@dataclass(frozen=True, slots=True)
class Baseline:
    """Known findings by the path of their file, relative to ``root``."""

    root: str
    files: Mapping[str, KnownFile] = field(default_factory=dict)

    def compare(self, findings: Sequence[Finding], checked: CheckedFiles) -> Comparison:
        """Separate new findings from known ones. Notes always count as new."""
        lookup = _Lookup(self, checked.content_hash)
        new: list[Finding] = []
        known: list[Finding] = []
        for finding in findings:
            if finding.severity is Severity.INFO:
                new.append(finding)
                continue
            num_known = lookup.num_known(finding)
            if finding.num_violations > num_known:
                new.append(_with_num_known(finding, num_known))
            else:
                known.append(finding)
        return Comparison(tuple(new), tuple(known), tuple(self._fixed(checked, lookup.moved)))

    def _fixed(self, checked: CheckedFiles, moved: Container[str | None]) -> Iterator[Fixed]:
        num_now = {(finding.uri, _identity(finding)): finding.num_violations for finding in checked.findings}
        unread = {finding.uri for finding in checked.findings if CODES[finding.code].family is Family.UNREADABLE}
        uris = {relative_to(uri, self.root): uri for uri in checked.uris if uri not in unread}
        for path, known in self.files.items():
            uri = uris.get(path)
            if uri is None and (known.content in moved or not self._is_deleted(path, checked.roots)):
                continue
            for identity, num_known in known.counts.items():
                num_left = num_now.get((uri or "", identity), 0)
                if num_left < num_known:
                    name, code, rule = identity
                    yield Fixed(path if uri is None else uri, name, code, rule, num_known, num_left)

    def _is_deleted(self, path: str, roots: Iterable[str]) -> bool:
        """Whether a file is missing from a folder that was checked."""
        if self._exists(path):
            return False
        folders = [relative_to(root, self.root) for root in roots]
        return any(path == folder or folder == "." or path.startswith(f"{folder}/") for folder in folders)

    def _exists(self, path: str) -> bool:
        return exists(path if is_uri(path) else os.path.join(self.root, path))  # noqa: PTH118

    def updated(self, findings: Sequence[Finding], checked: CheckedFiles) -> Baseline:
        """This baseline with ``findings`` for the checked files. Other files keep their entries while they exist."""
        paths = {uri: relative_to(uri, self.root) for uri in checked.uris}
        replaced = set(paths.values())
        files = {path: known for path, known in self.files.items() if path not in replaced and self._exists(path)}
        by_file: dict[str, dict[Identity, int]] = {}
        for finding in findings:
            if finding.severity is not Severity.INFO:
                by_file.setdefault(finding.uri, {})[_identity(finding)] = finding.num_violations
        for uri, counts in by_file.items():
            # A finding may be about a folder, or an index in it, which is no checked file.
            files[paths.get(uri) or relative_to(uri, self.root)] = KnownFile(checked.content_hash(uri), counts)
        return replace(self, files=files)

    def to_json(self) -> str:
        """The text of the file."""
        files = {path: _file_to_json(self.files[path]) for path in sorted(self.files)}
        return json.dumps({"version": _VERSION, "files": files}, indent=1, allow_nan=False) + "\n"

    @property
    def num_findings(self) -> int:
        return sum(len(known.counts) for known in self.files.values())


class _Lookup:
    """Finds known counts by path or by content. ``moved`` collects contents that were found under another path."""

    def __init__(self, baseline: Baseline, content_hash: Callable[[str], str | None]) -> None:
        self.moved: set[str | None] = set()
        self._baseline = baseline
        self._content_hash = functools.cache(content_hash)
        self._by_content: dict[str | None, list[Counts]] = {}
        for known in baseline.files.values():
            if known.content is not None:
                self._by_content.setdefault(known.content, []).append(known.counts)

    def num_known(self, finding: Finding) -> int:
        identity = _identity(finding)
        known = self._baseline.files.get(relative_to(finding.uri, self._baseline.root))
        by_path = known.counts.get(identity, 0) if known else 0
        if finding.num_violations <= by_path or not self._by_content:
            return by_path
        content = self._content_hash(finding.uri)
        same = self._by_content.get(content, [])
        if same:
            self.moved.add(content)
        return max([by_path, *(counts.get(identity, 0) for counts in same)])


def load_baseline(path: str | os.PathLike[str], *, must_exist: bool = True) -> Baseline:
    """Read a baseline. A missing file is an empty baseline unless ``must_exist``. Raises ``ConfigurationError``."""
    place = plain(os.fspath(path))
    # Names of local files are relative to the folder of the baseline, or to the current one if that is elsewhere.
    root = os.path.realpath("." if is_uri(path) else Path(path).parent)
    missing = "create it with 'datacheck baseline write'" if must_exist else None
    try:
        content = read_document(path, "a baseline", _MAX_BYTES, missing=missing, error=ConfigurationError)
    except FileNotFoundError:
        return Baseline(root)
    try:
        record = json.loads(content)
        version = record["version"]
        if version == _VERSION:
            return Baseline(root, {str(name): _file_from_json(entry) for name, entry in record["files"].items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fix = "restore it from version control, or write it again with 'datacheck baseline write'"
        raise ConfigurationError(place, f"not a baseline ({plain(_describe(error), 100)}); {fix}") from None
    raise ConfigurationError(place, f"unknown version {plain(str(version))}; expected {_VERSION}")


def save_baseline(baseline: Baseline, path: str | os.PathLike[str]) -> None:
    """Write a baseline atomically; raises ``OutputError``."""
    write_named(path, baseline.to_json().encode())


def _identity(finding: Finding) -> Identity:
    return (finding.field, finding.code, finding.rule)


def _with_num_known(finding: Finding, num_known: int) -> Finding:
    if not num_known:
        return finding
    return replace(finding, detail=append_detail(finding, f"{count(num_known)} of them are known"))


def _describe(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _file_to_json(known: KnownFile) -> dict[str, Any]:
    ordered = sorted(known.counts.items(), key=lambda item: tuple(part or "" for part in item[0]))
    findings = [
        {"code": code, "field": name, **({} if rule is None else {"rule": rule}), "num_violations": number}
        for (name, code, rule), number in ordered
    ]
    return {"content": known.content, "findings": findings}


def _file_from_json(entry: Mapping[str, Any]) -> KnownFile:
    counts: dict[Identity, int] = {}
    for finding in entry["findings"]:
        identity = (_text_or_none(finding["field"]), str(finding["code"]), _text_or_none(finding.get("rule")))
        number = finding["num_violations"]
        if type(number) is not int or number < 0:
            raise TypeError("num_violations must be an integer of at least 0")
        counts[identity] = number
    return KnownFile(_text_or_none(entry["content"]), counts)


def _text_or_none(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError("field, rule and content must be a string or null")
    return value
