"""Infer a schema from a dataset, with comments on the observed values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datacheck.errors import SourceError, UsageError
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.scan import are_paths
from datacheck.profile.data_profile import DataProfile
from datacheck.profile.dataset import FileSet, find_files, profile_files, profile_memory, stem_of
from datacheck.profile.infer.fields import MAX_TEXTS, FieldSummary, describe, suggest_field
from datacheck.profile.options import ProfileOptions
from datacheck.schema.model import Schema
from datacheck.schema.yaml_file import MAX_FILE_BYTES, dump_yaml, parse_yaml
from datacheck.sources.base import ReadOptions
from datacheck.sources.memory import is_pandas
from datacheck.text import count, join_limited, plain, quantity

__all__ = ["Inference", "infer", "infer_with_notes"]

_PROLOGUE = "Bounds leave a margin of 10 to 20 % of the observed range on either side. Narrow them where you know more."


@dataclass(frozen=True, slots=True)
class Inference:
    """An inferred schema, with a note on each field and header lines on the dataset.

    ``errors`` are those of the inputs that could not be read to their end; the schema is inferred from the rest.
    """

    schema: Schema
    notes: Mapping[str | None, str]
    header: tuple[str, ...]
    errors: tuple[SourceError, ...] = ()

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
        lines = [f"# {line}" for line in self.header]
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
    progress: Progress | None = None,
    options: ReadOptions | None = None,
) -> Schema:
    """Infer a schema that the dataset passes.

    It gives each field a dtype and a shape, says whether it has nulls, NaN or infinities, sets bounds with a margin, lists
    the values of small vocabularies, and marks keys as unique.

    Args:
        data: a path, folder or glob, or several; or data in memory, as for :func:`datacheck.scan`.
        workers: the number of units to read at a time; by default the number of processors, up to 16.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: receives each finished unit.
        options: how to read files.

    Raises:
        SourceError: an input cannot be read. A schema inferred from the others might be too strict for it.
        UsageError: a path matches nothing, or the data is of an unsupported type.
    """
    found = infer_with_notes(data, workers=workers, executor=executor, progress=progress, options=options)
    if found.errors:
        raise found.errors[0]
    return found.schema


def infer_with_notes(
    data: Any,
    *,
    name: str | None = None,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    options: ReadOptions | None = None,
) -> Inference:
    """As :func:`infer`, with notes on each field. ``name`` becomes the name of the schema.

    Only if no input can be read, its ``SourceError`` is raised.
    """
    profile_options = ProfileOptions(max_distinct=MAX_TEXTS, find_unique=True)
    if are_paths(data):
        files = FileSet.of(find_files(data, options))
        (profile,) = profile_files(
            [files], profile_options, workers=workers, executor=executor, progress=progress or NullProgress()
        )
    else:
        profile = profile_memory(data, profile_options)
    with profile:
        if profile.errors and not any(file.fields for file in profile.files):
            raise profile.errors[0]
        return _infer(profile, name, data)


def _infer(profile: DataProfile, name: str | None, data: Any) -> Inference:
    summaries = _summarize(profile)
    fields: dict[str | None, dict[str, Any]] = {}
    notes: dict[str | None, str] = {}
    inner: set[str | None] = set()
    duplicated = set(_duplicated_names(profile))
    objects = _object_columns(data)
    for path, summary in summaries.items():
        if path in inner:
            continue
        constraints, note = suggest_field(summary), describe(summary)
        if path in duplicated:
            # Columns that share a name may have different shapes.
            constraints.pop("shape", None)
        values = summaries.get(f"{path}[]") if path is not None and summary.is_list else None
        if values is not None and _is_one_field(summary, values):
            inner.add(values.path)
            constraints = {**suggest_field(values), **constraints}
            note = f"{note}; {describe(values)}"
        if objects is not None and summary.total("num_nan"):
            # Whatever pandas writes, its NaN becomes null, and the numbers beside it in a column of objects keep their type.
            constraints["nullable"] = True
            if path in objects:
                constraints.pop("dtype", None)
        fields[path], notes[path] = constraints, note
    schema = Schema.model_validate({"name": name, "fields": fields})
    return Inference(schema, notes, tuple(_header(profile, data)), tuple(profile.errors))


def _object_columns(data: Any) -> set[str | None] | None:
    """The names of the columns of Python objects, if the data is of pandas; otherwise None."""
    if not is_pandas(data):
        return None
    columns = data.items() if hasattr(data, "columns") else [(data.name, data)]
    return {str(name) for name, column in columns if column.dtype == object}


def _summarize(profile: DataProfile) -> dict[str | None, FieldSummary]:
    """Summarize each path; those whose values cannot be read are left out."""
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
        summary.profiles = profile.of_path(path)
        summary.is_everywhere = len(summary.facts) == num_files
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


def _header(profile: DataProfile, data: Any) -> list[str]:
    from datacheck._version import __version__

    named = "memory"
    if are_paths(data):
        paths = [data] if isinstance(data, str | os.PathLike) else data
        named = ", ".join([*(plain(os.fspath(path)) for path in paths[:4]), *(["…"] if len(paths) > 4 else [])])
    size = f"{quantity(profile.num_rows, 'row')} of {quantity(len(profile.files), 'file')}"
    lines = [f"Inferred by datacheck {__version__} from {size}: {named}", _PROLOGUE]
    stems = {stem_of(file.uri) for file in profile.files if None in file.fields}
    if len(stems) > 1:
        lines.append(f"Nameless arrays share one field: {join_limited(sorted(stems))}. Infer from one of them only.")
    malformed = sum(file.num_malformed for file in profile.files)
    if malformed:
        lines.append(f"Left out: {quantity(malformed, 'line')} that is not a valid row (DC305)")
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
