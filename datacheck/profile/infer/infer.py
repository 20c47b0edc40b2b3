"""Inferring a schema: what a data set is, as a file that holds the next one to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datacheck.errors import UsageError
from datacheck.jobs.executors.local import ExecutorLike
from datacheck.jobs.progress import NullProgress, Progress
from datacheck.jobs.scan import are_paths
from datacheck.profile.dataset import DataProfile, FileSet, find_files, profile_files, profile_memory, stem_of
from datacheck.profile.infer.fields import MAX_WORDS, Seen, describe, words_of
from datacheck.profile.unit import Asked
from datacheck.schema.model import Schema
from datacheck.schema.yaml_file import MAX_FILE_BYTES, dump_yaml, parse_yaml
from datacheck.sources.base import ReadOptions
from datacheck.text import count, join_limited, plain, quantity

__all__ = ["Inference", "infer", "infer_with_notes"]

_PROLOGUE = "Bounds leave 10 to 20 % of the range on either side of what was seen. Narrow them where you know more."


@dataclass(frozen=True, slots=True)
class Inference:
    """A schema, what was seen of each of its fields, and what was seen of the data set."""

    schema: Schema
    notes: Mapping[str | None, str]
    header: tuple[str, ...]

    def to_yaml(self) -> str:
        """The schema as a YAML file with comments that say what was seen; it reads back as the same schema.

        Raises ``UsageError`` where it has more fields than a schema file can hold.
        """
        for with_notes in (True, False):
            text = self._render(with_notes=with_notes)
            if len(text.encode("utf-8", "surrogatepass")) <= MAX_FILE_BYTES:
                read = Schema.model_validate(parse_yaml(text, "schema"))
                assert read == self.schema, "a schema was written that does not read back as it was"
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
            words = field.model_dump(mode="json", exclude_defaults=True)
            if with_notes and name in self.notes:
                lines.append(f"  # {self.notes[name]}")
            # A name in quotes may go on in the next line, and is then indented with it.
            lines += [f"  {line}" if line else line for line in dump_yaml({name: words}).rstrip("\n").split("\n")]
        return "\n".join(lines if fields else lines[:-1]) + "\n"


def infer(
    data: Any,
    *,
    workers: int | None = None,
    executor: ExecutorLike = "threads",
    progress: Progress | None = None,
    options: ReadOptions | None = None,
) -> Schema:
    """The schema that a data set suggests; the data set passes it.

    It says of each field the dtype, the shape, whether there are nulls, NaN and infinities, bounds with headroom, the
    members of small vocabularies, and which fields are keys.

    Args:
        data: a path, folder or glob, or several; or data in memory, as for :func:`datacheck.scan`.
        workers: how many units are worked on at a time; as many as there are processors, up to 16, unless set.
        executor: ``"threads"``, ``"processes"``, or a ``concurrent.futures.Executor``.
        progress: told as units end.
        options: how files are read.

    Raises:
        SourceError: an input cannot be read: a schema of the others would promise too much.
        UsageError: a path stands for nothing, or the data is of no kind that can be looked at.
    """
    found = infer_with_notes(data, workers=workers, executor=executor, progress=progress, options=options)
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
    """As :func:`infer`, with what was seen of each field. ``name`` is what the schema calls the data."""
    asked = Asked(MAX_WORDS, find_unique=True)
    if are_paths(data):
        files = FileSet.of(find_files(data, options))
        (profile,) = profile_files(
            [files], asked, workers=workers, executor=executor, progress=progress or NullProgress()
        )
    else:
        profile = profile_memory(data, asked)
    with profile:
        if profile.errors:
            raise profile.errors[0]
        return _infer(profile, name, data)


def _infer(profile: DataProfile, name: str | None, data: Any) -> Inference:
    seen = _collect(profile)
    fields: dict[str | None, dict[str, Any]] = {}
    notes: dict[str | None, str] = {}
    inner: set[str | None] = set()
    twice = set(_named_twice(profile))
    for path, one in seen.items():
        if path in inner:
            continue
        words, note = words_of(one), describe(one)
        if path in twice:
            # The columns of one name need not have one shape.
            words.pop("shape", None)
        values = seen.get(f"{path}[]") if path is not None and one.is_list else None
        if values is not None and _is_one_field(one, values):
            inner.add(values.path)
            words = {**words_of(values), **words}
            note = f"{note}; {describe(values)}"
        fields[path], notes[path] = words, note
    schema = Schema.model_validate({"name": name, "fields": fields})
    return Inference(schema, notes, tuple(_header(profile, data)))


def _collect(profile: DataProfile) -> dict[str | None, Seen]:
    """What is known of each path; what cannot be looked into is left out."""
    seen: dict[str | None, Seen] = {}
    num_told = 0
    for file in profile.files:
        if not file.fields:
            continue
        num_told += 1
        for path, facts in file.fields.items():
            if not facts.problem:
                one = seen.setdefault(path, Seen(path))
                one.facts.append(facts)
                one.is_csv = one.is_csv and not file.has_dtypes
    twice = _named_twice(profile)
    for path, one in seen.items():
        one.profiles = profile.of_path(path)
        one.is_everywhere = len(one.facts) == num_told
        store = profile.unique.get(path) if path is not None else None
        one.is_unique = (
            store is not None
            and path not in twice
            and len(one.profiles) == 1
            and one.profiles[0].num_slots == store.num_rows
            and not store.has_repeated()
        )
    return seen


def _is_one_field(outer: Seen, values: Seen) -> bool:
    """Whether a list and its values may be told as one field: nothing that is said of one is wrong of the other."""
    if values.is_container or len(outer.facts) != len(values.facts):
        return False
    return bool(outer.total("num_nulls")) == bool(values.total("num_nulls"))


def _named_twice(profile: DataProfile) -> list[str | None]:
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
        lines.append(f"Nameless arrays share one field: {join_limited(sorted(stems))}. Infer from one of them alone.")
    malformed = sum(file.num_malformed for file in profile.files)
    if malformed:
        lines.append(f"Left out: {quantity(malformed, 'line')} with more or fewer cells than the header (DC305)")
    problems = {path: facts.problem for file in profile.files for path, facts in file.fields.items() if facts.problem}
    for path, problem in list(problems.items())[:10]:
        lines.append(f"Left out: '{plain(str(path))}', which could not be looked into: {plain(problem)} (DC005)")
    twice = [str(name) for name in _named_twice(profile)]
    if twice:
        lines.append(f"More than one column is called {join_limited(twice)} (DC006)")
    return lines
