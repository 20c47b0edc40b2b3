"""Infer a schema from a dataset, with comments on the observed values."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from datacheck.errors import SourceError, UsageError
from datacheck.findings import Finding, Severity
from datacheck.jobs.execution import Execution
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import ProgressLike, following
from datacheck.jobs.scan import are_paths, require_files, scan
from datacheck.profile.data_profile import DataProfile
from datacheck.profile.dataset import FileSet, kind_of_file, profile_files, profile_memory, stem_of
from datacheck.profile.exchanged_keys import hashes_in_files
from datacheck.profile.infer.describe import describe
from datacheck.profile.infer.fields import MAX_TEXTS, FieldSummary, suggest_field
from datacheck.profile.notes.find import NOTE_OPTIONS, notes_of_profiles
from datacheck.profile.notes.leaf_notes import LeafNotes
from datacheck.profile.notes.row_lengths import equal_lengths
from datacheck.reports.text import render_finding
from datacheck.schema.model import Schema
from datacheck.schema.yaml_file import MAX_FILE_BYTES, dump_yaml, parse_yaml
from datacheck.sources.base import ReadOptions
from datacheck.sources.memory import is_pandas
from datacheck.text import count, join_limited, plain, quantity

_PROLOGUE = "Bounds leave a margin of 10 to 20 % of the observed range on either side. Narrow them where you know more."
_STRICT = "What looks like a fault in the data is not allowed here; a scan of the same data reports it."
_PERMISSIVE = "Everything that occurs in the data is allowed (--permissive)."
_OPTIONS = replace(NOTE_OPTIONS, max_distinct=MAX_TEXTS, find_unique=True)


@dataclass(frozen=True, slots=True)
class Inference:
    """An inferred schema, with a note on each field and header lines on the dataset.

    ``errors`` are about inputs that could not be read to their end; the schema is inferred from the rest.
    ``has_faults`` says that the schema does not allow some values, which look like faults. ``listed`` is what a scan with
    the schema reports of them, and the notes on the data. ``frequent`` says which fields allow NaN or infinities because
    many are there.
    """

    schema: Schema
    notes: Mapping[str | None, str]
    header: tuple[str, ...]
    errors: tuple[SourceError, ...] = ()
    listed: tuple[Finding, ...] = ()
    has_faults: bool = False
    frequent: str = ""

    def to_yaml(self) -> str:
        """Write the schema as YAML that reads back as the same schema, with notes as comments if they fit.

        Raises ``UsageError`` if it has more fields than a schema file can hold.
        """
        for with_notes in (True, False):
            text = self._render(with_notes=with_notes)
            if len(text.encode("utf-8", "surrogatepass")) <= MAX_FILE_BYTES:
                read = Schema.model_validate(parse_yaml(text, "schema"))
                assert read == self.schema, "a written schema must read back unchanged"
                return text
        raise UsageError(
            f"a schema of {count(len(self.schema.fields))} fields does not fit a file of {count(MAX_FILE_BYTES)} bytes; "
            "infer from fewer files, or keep the schema in Python: datacheck.infer(paths)"
        )

    def _render(self, *, with_notes: bool) -> str:
        record = self.schema.model_dump(mode="json", exclude_defaults=True, exclude={"fields"})
        fields = self.schema.fields
        lines = [f"# {line}" for line in (*self.header, *([self.frequent] if self.frequent else []))]
        lines += [dump_yaml({"version": self.schema.version, **record}).rstrip("\n"), "fields:"]
        for name, field in fields.items():
            constraints = field.model_dump(mode="json", exclude_defaults=True)
            if with_notes and name in self.notes:
                lines.append(f"  # {self.notes[name]}")
            # A quoted name may span lines, which are indented alike.
            lines += [f"  {line}" if line else line for line in dump_yaml({name: constraints}).rstrip("\n").split("\n")]
        return "\n".join(lines if fields else lines[:-1]) + "\n"


def infer(
    data: Any,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: ProgressLike = None,
    options: ReadOptions | None = None,
    permissive: bool = False,
) -> Schema:
    """Infer a schema that the dataset passes, except for what looks like a fault in it.

    It gives each field a dtype and a shape, and says whether it has nulls, NaN or infinities. It sets bounds with a
    margin, lists the values of small vocabularies, and marks keys as unique. A few NaN or infinities among other values,
    sentinels, outliers, rare variants of a text, a few blank texts and a few lists that are not as long as those beside
    them are not made legal: a scan with the schema reports them.

    Args:
        data: a path, folder or glob, or several; or data in memory, as for :func:`datacheck.scan`.
        workers: the number of units to read at a time; by default the number of processors, up to 16.
        executor: ``"threads"``, ``"processes"``, a ``concurrent.futures.Executor``, or one for shards or Ray.
        progress: True for a progress bar on stderr, or what receives each finished unit.
        options: how to read files.
        permissive: allow everything that occurs in the data, so that it passes.

    Warns of what is wrong with the files themselves: shards that are missing, words among numbers, fields that some lack.

    Raises:
        SourceError: an input cannot be read. A schema inferred from the others might be too strict for it.
        UsageError: a path matches nothing, or the data is of an unsupported type.
    """
    with following(progress) as follower:
        execution = Execution(workers, executor, follower)
        found = infer_with_notes(data, execution=execution, options=options, permissive=permissive)
    if found.errors:
        raise found.errors[0]
    for finding in found.listed:
        if finding.severity is not Severity.INFO:
            warnings.warn(f"the schema was inferred from faulty data: {render_finding(finding)}", stacklevel=2)
    return found.schema


def infer_with_notes(
    data: Any,
    *,
    name: str | None = None,
    files: FileSet | None = None,
    execution: Execution | None = None,
    options: ReadOptions | None = None,
    permissive: bool = False,
    with_list: bool = False,
) -> Inference:
    """As :func:`infer`, with notes on each field. ``name`` becomes the name of the schema.

    ``files`` are those that ``data`` stands for, if they were found already; their nameless arrays may have names.
    ``with_list`` also lists what looks wrong with the values, not only with the files. Only if no input can be read, its
    ``SourceError`` is raised.
    """
    execution = execution or Execution()
    if execution.is_shared:
        require_files([data])
    with execution.job("infer", [data, options, permissive]), hashes_in_files(execution):
        return _infer_in_job(data, name, files, execution, options, permissive=permissive, with_list=with_list)


def _infer_in_job(
    data: Any,
    name: str | None,
    files: FileSet | None,
    execution: Execution,
    options: ReadOptions | None,
    *,
    permissive: bool,
    with_list: bool,
) -> Inference:
    if files is not None or are_paths(data):
        files = files or FileSet.find(data, options)
        (profile,) = profile_files([files], _OPTIONS, execution)
    else:
        profile = profile_memory(data, _OPTIONS)
    with profile:
        if profile.errors and not any(file.fields for file in profile.files):
            raise profile.errors[0]
        found = _infer(profile, name, data, permissive, is_table=files is None or not any(files.names))
        # The schema cannot say how files differ: it has every field, and allows what some lack.
        of_files = (files or FileSet((), ())).check(profile, Schema())
        if not with_list:
            return replace(found, listed=tuple(of_files))
        noted = notes_of_profiles([profile])
    # Without a fault a scan would find only what is wrong with the files, which the profile knows.
    reported = list(_violations(data, files, found.schema, execution, options)) if found.has_faults else []
    known = {(one.code, one.uri, one.field) for one in reported}
    of_files = [one for one in of_files if (one.code, one.uri, one.field) not in known]
    return replace(found, listed=(*reported, *of_files, *noted))


def _violations(
    data: Any, files: FileSet | None, schema: Schema, execution: Execution, options: ReadOptions | None
) -> Iterator[Finding]:
    """What a scan of the data with the schema reports; of an array that got a name, with the field of that name."""
    run = partial(
        scan,
        workers=execution.workers,
        executor=execution.executor,
        progress=execution.progress,
        options=options,
    )
    if files is None or not any(files.names):
        # A merge finds the results of shards by the schema, and only the merge knows the file that names it.
        yield from run(data, schema.model_copy(update={"name": None})).findings
        return
    by_name: dict[str | None, list[str]] = {}
    for file, name in zip(files.files, files.names, strict=True):
        by_name.setdefault(name, []).append(file.uri)
    for name, uris in by_name.items():
        own = Schema(fields={None: schema.fields[name]}) if name in schema.fields else Schema()
        for finding in run(uris, own).findings:
            yield replace(finding, field=name if finding.field is None else finding.field)


def _infer(profile: DataProfile, name: str | None, data: Any, permissive: bool, *, is_table: bool) -> Inference:
    summaries = _summarize(profile, is_table=is_table)
    fields: dict[str | None, dict[str, Any]] = {}
    notes: dict[str | None, str] = {}
    inner: set[str | None] = set()
    duplicated = set(_duplicated_names(profile))
    objects = _object_columns(data)
    has_faults = False
    for path, summary in summaries.items():
        if path in inner:
            continue
        values = summaries.get(f"{path}[]") if path is not None and summary.is_list else None
        values = values if values is not None and _is_one_field(summary, values) else None
        if values is not None:
            inner.add(values.path)
        loose, strict = (_suggest(summary, values, permissive=kind) for kind in (True, False))
        constraints = loose if permissive else strict
        if objects is not None and summary.total("num_nan"):
            # Whatever pandas writes, its NaN becomes null, and the numbers beside it in a column of objects keep their type.
            constraints |= {"nullable": True, **({"allow_nan": True} if "allow_nan" in loose else {})}
            if path in objects:
                constraints.pop("dtype", None)
        if path in duplicated:
            # Columns that share a name may have different shapes.
            constraints.pop("shape", None)
        has_faults = has_faults or (not permissive and loose != strict)
        fields[path] = constraints
        notes[path] = "; ".join(map(describe, [summary, *([] if values is None else [values])]))
    rules = [] if permissive else _rules_across_fields(profile, summaries)
    schema = Schema.model_validate({"name": name, "fields": fields, "checks": rules})
    has_faults = has_faults or bool(rules)
    header = tuple(_header(profile, data, permissive))
    frequent = "" if permissive else _frequent_faults(schema)
    return Inference(schema, notes, header, tuple(profile.errors), has_faults=has_faults, frequent=frequent)


def _frequent_faults(schema: Schema) -> str:
    """The fields of an inferred schema that allow NaN or infinities because many are there, in a sentence; or nothing."""
    allowed = [path or "the array" for path, field in schema.fields.items() if field.allow_nan or field.allow_inf]
    if not allowed:
        return ""
    return (
        f"NaN or infinities are allowed where more than 5 % are, in {join_limited(allowed)}: remove allow_nan and allow_inf if"
        " they are faults."
    )


def _rules_across_fields(profile: DataProfile, summaries: Mapping[str | None, FieldSummary]) -> list[str]:
    """That lists which are nearly always equally long always are, if every file has them."""
    return [
        equal_lengths(names)
        for names in profile.row_lengths.uneven()
        if all(name in summaries and summaries[name].is_everywhere for name in names)
    ]


def _suggest(summary: FieldSummary, values: FieldSummary | None, *, permissive: bool) -> dict[str, Any]:
    """The constraints of a field and of its ``values``, if it is a list that shares its field with them."""
    own = suggest_field(summary, permissive=permissive)
    return own if values is None else {**suggest_field(values, permissive=permissive), **own}


def _object_columns(data: Any) -> set[str | None] | None:
    """The names of the columns of Python objects, if the data is of pandas; otherwise None."""
    if not is_pandas(data):
        return None
    columns = data.items() if hasattr(data, "columns") else [(data.name, data)]
    return {str(name) for name, column in columns if column.dtype == object}


def _summarize(profile: DataProfile, *, is_table: bool) -> dict[str | None, FieldSummary]:
    """Summarize each path; those whose values cannot be read are left out.

    ``is_table`` says that a file has all fields of its rows; otherwise each file is one of them.
    """
    summaries: dict[str | None, FieldSummary] = {}
    num_files = 0
    for file in profile.files:
        if not file.fields:
            continue
        num_files += 1
        for path, facts in file.fields.items():
            if not facts.problem:
                summary = summaries.setdefault(path, FieldSummary(path))
                summary.facts.append(facts)
                summary.is_untyped = summary.is_untyped and not file.has_dtypes
    duplicated = _duplicated_names(profile)
    for path, summary in summaries.items():
        for key in profile.keys_of.get(path, ()):
            summary.profiles.append(profile.leaves[key])
            summary.notes.append(profile.notes.get(key, LeafNotes()))
        summary.is_everywhere = not is_table or len(summary.facts) == num_files
        store = profile.unique.get(path) if path is not None else None
        summary.is_unique = (
            store is not None
            and path not in duplicated
            and len(summary.profiles) == 1
            and summary.profiles[0].num_slots == store.num_rows
            and not store.has_repeated()
        )
    return summaries


def _is_one_field(outer: FieldSummary, values: FieldSummary) -> bool:
    """Whether a list and its values can share one field, because the constraints of each also hold for the other."""
    if values.is_container or len(outer.facts) != len(values.facts):
        return False
    return bool(outer.total("num_nulls")) == bool(values.total("num_nulls"))


def _duplicated_names(profile: DataProfile) -> list[str | None]:
    return list(dict.fromkeys(name for file in profile.files for name, times in file.names.items() if times > 1))


def _header(profile: DataProfile, data: Any, permissive: bool) -> list[str]:
    from datacheck._version import __version__

    named = "memory"
    if are_paths(data):
        paths = [data] if isinstance(data, str | os.PathLike) else data
        named = ", ".join([*(plain(os.fspath(path)) for path in paths[:4]), *(["…"] if len(paths) > 4 else [])])
    size = f"{quantity(profile.num_rows, 'row')} of {quantity(len(profile.files), 'file')}"
    lines = [f"Inferred by datacheck {__version__} from {size}: {named}", _PROLOGUE]
    lines.append(_PERMISSIVE if permissive else _STRICT)
    stems = {stem_of(file.uri) for file in profile.files if None in file.fields}
    if len(set(map(kind_of_file, stems))) > 1:
        lines.append(f"Nameless arrays share one field: {join_limited(sorted(stems))}. Infer from one of them only.")
    malformed = sum(file.num_malformed for file in profile.files)
    if malformed:
        lines.append(f"Left out: {quantity(malformed, 'malformed record')} (DC305)")
    for error in profile.errors[:10]:
        lines.append(f"Left out: {plain(error.uri)}, which could not be read: {plain(error.problem)} ({error.code})")
    if len(profile.errors) > 10:
        lines.append(f"Left out: {quantity(len(profile.errors) - 10, 'more file')} that could not be read")
    problems = {path: facts.problem for file in profile.files for path, facts in file.fields.items() if facts.problem}
    for path, problem in list(problems.items())[:10]:
        lines.append(f"Left out: '{plain(str(path))}', whose values could not be read: {plain(problem)} (DC005)")
    duplicated = [str(name) for name in _duplicated_names(profile)]
    if duplicated:
        lines.append(f"More than one column is called {join_limited(duplicated)} (DC006)")
    return lines
