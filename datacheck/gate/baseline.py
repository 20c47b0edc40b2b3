"""The baseline: findings that are known, in a file to commit. By it only new findings fail, and grown ones.

A file is known by its content, wherever it lies, and by its path, whatever it holds: a file that was moved keeps its known
findings, and one that was made anew is held to the counts of before. The file is the same bytes for the same findings, and
its lines are sorted, so that a change of it can be reviewed.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datacheck.codes import CODES, Family
from datacheck.errors import ConfigurationError
from datacheck.findings import Finding, Severity
from datacheck.gate.patterns import relative_to
from datacheck.publishing.named_file import write_named
from datacheck.reports.gate_report import Fixed
from datacheck.text import count, plain

__all__ = ["Baseline", "Compared", "LookedAt", "load_baseline", "save_baseline"]

VERSION = 1
_MAX_BYTES = 256 << 20

#: Field, code and rule of a finding.
Identity = tuple[str | None, str, str | None]
#: What is known of a file: the number of violations of each finding.
Counts = Mapping[Identity, int]


@dataclass(frozen=True, slots=True)
class KnownFile:
    """The known findings of one file. ``content`` is the hash of what it held, None where it could not be read."""

    content: str | None
    counts: Counts


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What a run looked at: the files that it read, the paths that it was given, and all that it found.

    ``content_of`` hashes a file, and is asked only where a path does not answer.
    """

    uris: Sequence[str]
    roots: Sequence[str]
    findings: Sequence[Finding]
    content_of: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Compared:
    """Findings that are new or have grown, those that are known, and known ones that are less or gone."""

    new: tuple[Finding, ...]
    known: tuple[Finding, ...]
    fixed: tuple[Fixed, ...]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Known findings by the path of their file, as it is written from ``root``."""

    root: str
    files: Mapping[str, KnownFile] = field(default_factory=dict)

    def compare(self, findings: Sequence[Finding], looked_at: LookedAt) -> Compared:
        """Tell new findings from known ones; findings that are mere notes are neither."""
        view = _View(self, looked_at)
        new: list[Finding] = []
        known: list[Finding] = []
        for finding in findings:
            if finding.severity is Severity.INFO:
                new.append(finding)
                continue
            before = view.count(finding)
            if finding.num_violations > before:
                new.append(_grown(finding, before))
            else:
                known.append(finding)
        return Compared(tuple(new), tuple(known), tuple(self._fixed(looked_at, view)))

    def _fixed(self, looked_at: LookedAt, view: _View) -> Iterable[Fixed]:
        now = {(finding.uri, _identity(finding)): finding.num_violations for finding in looked_at.findings}
        unread = {finding.uri for finding in looked_at.findings if CODES[finding.code].family is Family.UNREADABLE}
        by_path = {relative_to(uri, self.root): uri for uri in looked_at.uris if uri not in unread}
        for path, known in self.files.items():
            uri = by_path.get(path)
            if uri is None and not (self._is_gone(path, looked_at.roots) and known.content not in view.moved):
                continue
            for identity, before in known.counts.items():
                left = now.get((uri or "", identity), 0)
                if left < before:
                    name, code, rule = identity
                    yield Fixed(path if uri is None else uri, name, code, rule, before, left)

    def _is_gone(self, path: str, roots: Iterable[str]) -> bool:
        """Whether a file is no longer in a folder that was looked through."""
        if os.path.lexists(self._full(path)):
            return False
        return any(path == root or root == "." or path.startswith(f"{root}/") for root in self._relative(roots))

    def _relative(self, paths: Iterable[str]) -> Iterable[str]:
        return (relative_to(path, self.root) for path in paths)

    def _full(self, path: str) -> str:
        return os.path.join(self.root, path)  # noqa: PTH118

    def updated(self, findings: Sequence[Finding], looked_at: LookedAt) -> Baseline:
        """A baseline of these findings; what it says of files that were not looked at, and are still there, stays."""
        paths = {uri: relative_to(uri, self.root) for uri in looked_at.uris}
        fresh = set(paths.values())
        files = {
            path: known for path, known in self.files.items() if path not in fresh and os.path.lexists(self._full(path))
        }
        by_file: dict[str, dict[Identity, int]] = {}
        for finding in findings:
            if finding.severity is not Severity.INFO:
                by_file.setdefault(finding.uri, {})[_identity(finding)] = finding.num_violations
        for uri, counts in by_file.items():
            files[paths[uri]] = KnownFile(looked_at.content_of(uri), counts)
        return replace(self, files=files)

    def to_json(self) -> str:
        """The text of the file."""
        files = {path: _file_to_json(self.files[path]) for path in sorted(self.files)}
        return json.dumps({"version": VERSION, "files": files}, indent=1, allow_nan=False) + "\n"

    @property
    def num_findings(self) -> int:
        return sum(len(known.counts) for known in self.files.values())


class _View:
    """A baseline as it looks for the files of one run. ``moved`` are contents that were known under another path."""

    def __init__(self, baseline: Baseline, looked_at: LookedAt) -> None:
        self.moved: set[str | None] = set()
        self._baseline = baseline
        self._content_of = functools.cache(looked_at.content_of)
        self._by_content: dict[str | None, list[Counts]] = {}
        for known in baseline.files.values():
            if known.content is not None:
                self._by_content.setdefault(known.content, []).append(known.counts)

    def count(self, finding: Finding) -> int:
        """How many violations are known where a finding was made."""
        identity = _identity(finding)
        known = self._baseline.files.get(relative_to(finding.uri, self._baseline.root))
        by_path = known.counts.get(identity, 0) if known else 0
        if finding.num_violations <= by_path or not self._by_content:
            return by_path
        content = self._content_of(finding.uri)
        same = self._by_content.get(content, [])
        if same:
            self.moved.add(content)
        return max([by_path, *(counts.get(identity, 0) for counts in same)])


def load_baseline(path: str | os.PathLike[str], *, must_exist: bool = True) -> Baseline:
    """The baseline of a file; an empty one where there is none and none is needed. Raises ``ConfigurationError``."""
    place = plain(os.fspath(path))
    root = os.path.realpath(Path(path).parent)
    try:
        content = Path(path).read_bytes() if Path(path).stat().st_size <= _MAX_BYTES else None
    except FileNotFoundError:
        if not must_exist:
            return Baseline(root)
        raise ConfigurationError(place, "there is no such file; write it with 'datacheck baseline write'") from None
    except OSError as error:
        raise ConfigurationError(place, f"cannot be opened: {error.strerror}; check the path") from None
    if content is None:
        raise ConfigurationError(place, f"is larger than {count(_MAX_BYTES)} bytes; is it a baseline?")
    try:
        record = json.loads(content)
        version = record["version"]
        if version == VERSION:
            return Baseline(root, {str(name): _file_of_json(entry) for name, entry in record["files"].items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        remedy = "take it from version control, or write it again with 'datacheck baseline write'"
        raise ConfigurationError(place, f"is no baseline ({plain(_words(error), 100)}); {remedy}") from None
    raise ConfigurationError(place, f"has version {plain(str(version))}; this datacheck reads version {VERSION}")


def save_baseline(baseline: Baseline, path: str | os.PathLike[str]) -> None:
    """Write a baseline atomically; raises ``OutputError``."""
    write_named(path, baseline.to_json().encode())


def _identity(finding: Finding) -> Identity:
    return (finding.field, finding.code, finding.rule)


def _grown(finding: Finding, before: int) -> Finding:
    if not before:
        return finding
    detail = "; ".join(filter(None, (finding.detail, f"{count(before)} of them are known")))
    return replace(finding, detail=detail)


def _words(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


def _file_to_json(known: KnownFile) -> dict[str, Any]:
    ordered = sorted(known.counts.items(), key=lambda item: tuple(part or "" for part in item[0]))
    findings = [
        {"code": code, "field": name, **({} if rule is None else {"rule": rule}), "num_violations": number}
        for (name, code, rule), number in ordered
    ]
    return {"content": known.content, "findings": findings}


def _file_of_json(entry: Mapping[str, Any]) -> KnownFile:
    counts: dict[Identity, int] = {}
    for finding in entry["findings"]:
        identity = (_text_or_none(finding["field"]), str(finding["code"]), _text_or_none(finding.get("rule")))
        number = finding["num_violations"]
        if type(number) is not int:
            raise TypeError("num_violations must be a whole number")
        counts[identity] = number
    return KnownFile(_text_or_none(entry["content"]), counts)


def _text_or_none(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError("field, rule and content must be text or null")
    return value
