"""Draft a project for a folder of data: a schema, a pipeline and a configuration that run, with what was chosen in comments."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datacheck.errors import SourceError
from datacheck.findings import Finding
from datacheck.formats import Format, format_of_name
from datacheck.gate.locate import YAML
from datacheck.jobs.execution import Execution
from datacheck.profile.dataset import SPLIT, FileSet, find_inputs, stem_of
from datacheck.profile.infer.infer import Inference, infer_with_notes
from datacheck.schema.dtypes import dtype_kind
from datacheck.schema.yaml_file import dump_yaml
from datacheck.sources.base import ReadOptions, fingerprint_of
from datacheck.sources.discover import InputFile
from datacheck.storage.os_calls import relative_uri
from datacheck.text import join_limited, plain, quantity

#: The files of a project.
SCHEMA, PIPELINE = "schema.yaml", "pipeline.yaml"
#: The folder of what the pipeline publishes.
_OUTPUT = "out"
#: Files to list one by one in a pipeline.
_MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class Project:
    """The text of each file of a project by name, what looks wrong in the data, and which inputs could not be read.

    ``frequent`` says which fields of the schema allow NaN or infinities because many are there.
    """

    files: Mapping[str, str]
    num_fields: int
    frequent: str
    listed: tuple[Finding, ...]
    errors: tuple[SourceError, ...]


def draft_project(
    folder: str, output: str, *, options: ReadOptions | None = None, execution: Execution | None = None
) -> Project:
    """Draft a project for the data in ``folder``, whose files will lie in the folder ``output``.

    Of several formats it is about the one with the most bytes. Files belong to the split that their path names.

    Raises:
        SourceError: no file can be read.
        UsageError: there is no data.
    """
    by_format: dict[str, list[InputFile]] = {}
    inputs = find_inputs(folder, options)
    for file in inputs.files:
        record = format_of_name(file.uri)
        by_format.setdefault("" if record is None else record.name, []).append(file)
    name, files = max(by_format.items(), key=lambda item: sum(map(_size, item[1])))
    others = {other: len(some) for other, some in by_format.items() if other != name}
    record = format_of_name(files[0].uri)
    splits = _splits(files, folder)
    arrays = _arrays(splits) if record is not None and record.is_one_array else None
    names = [None if arrays is None else _array_name(file.uri) for file in files]
    found = infer_with_notes(
        [file.uri for file in files],
        name=_name_of(folder),
        files=FileSet(files, names, inputs),
        execution=execution,
        options=options,
        with_list=True,
    )
    draft = _Draft(folder, output, found, record, splits, arrays, others)
    texts = {SCHEMA: found.to_yaml(), PIPELINE: draft.pipeline(), YAML: draft.configuration()}
    return Project(texts, len(found.schema.fields), found.frequent, found.listed, found.errors)


def _size(file: InputFile) -> int:
    try:
        return fingerprint_of(file.uri).size
    except SourceError:
        return 0


def _name_of(folder: str) -> str:
    name = re.sub(r"[^\w-]+", "-", Path(os.path.abspath(folder)).name).strip("-_")  # noqa: PTH100
    return name or "data"


def _splits(files: Sequence[InputFile], folder: str) -> dict[str, list[str]]:
    """The files by the split that their path below ``folder`` names; ``data`` for those that name none."""
    found: dict[str, list[str]] = {}
    for file in files:
        words = SPLIT.findall(file.uri.removeprefix(folder))
        found.setdefault(words[-1].lower() if words else "data", []).append(file.uri)
    return {split: found[split] for split in sorted(found, key=lambda split: (split != "train", split))}


def _array_name(uri: str) -> str:
    """What an array is called: its file's name without the split's."""
    stem = SPLIT.sub("", stem_of(uri)).strip("_-. ")
    return stem or stem_of(uri)


def _arrays(splits: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]] | None:
    """For each split its arrays by name, if they are the same in each; None if they are not fields of one table."""
    found: dict[str, dict[str, str]] = {}
    for split, uris in splits.items():
        found[split] = {_array_name(uri): uri for uri in uris}
        if len(found[split]) < len(uris) or any(re.search(r"\d$", name) for name in found[split]):
            return None
    return found if len({frozenset(arrays) for arrays in found.values()}) == 1 else None


@dataclass(frozen=True, slots=True)
class _Draft:
    folder: str
    output: str
    found: Inference
    record: Format | None
    splits: Mapping[str, Sequence[str]]
    arrays: Mapping[str, Mapping[str, str]] | None
    others: Mapping[str, int]

    def _path(self, uri: str) -> str:
        """A path as written in a file of the project, relative to it where possible."""
        return uri if "://" in uri else relative_uri(uri, self.output or ".")

    def pipeline(self) -> str:
        """The pipeline: what breaks the schema is set aside, and nothing is changed."""
        name = self.found.schema.name or "data"
        inputs: dict[str, Any] = {split: self._input(split) for split in self.splits}
        fit = "train" if "train" in inputs else next(iter(inputs))
        lines = [
            "# Drafted by 'datacheck init'. Run it with: datacheck run pipeline.yaml",
            "version: 1",
            dump_yaml({"name": name, "schema": SCHEMA}).rstrip("\n"),
            "",
            *self._about_inputs(),
            dump_yaml({"inputs": inputs}).rstrip("\n"),
            f"fit: {fit}  # statistics are learned from this split only",
            "",
            "# Nothing is changed yet: rows that break the schema are set aside, with their reasons.",
            "otherwise: quarantine",
            *self._about_faults(),
            "clean: []",
            *self._suggested_rules(),
            "",
            dump_yaml({"output": {"path": posixpath.join(_OUTPUT, name)}}).rstrip("\n"),
        ]
        return "\n".join(lines) + "\n"

    def _about_inputs(self) -> Iterator[str]:
        if list(self.splits) == ["data"]:
            yield "# No path names a split (train, val, test), so all files are one."
        else:
            yield "# The splits are those that the paths name."
        for name, number in self.others.items():
            yield f"# Left out: {quantity(number, 'file')} of another format ({plain(name) or 'unknown'})."

    def _input(self, split: str) -> Any:
        if self.arrays is not None:
            return {name: self._path(uri) for name, uri in self.arrays[split].items()}
        uris = self.splits[split]
        everything = [uri for some in self.splits.values() for uri in some]
        common = posixpath.commonpath(uris) if len(uris) > 1 else uris[0]
        below = [uri for uri in everything if uri == common or uri.startswith(f"{common}/")]
        if len(uris) > 1 and len(below) == len(uris) and not self.others:
            return self._path(common)
        if len(uris) <= _MAX_LISTED:
            paths = [self._path(uri) for uri in uris]
            return paths if len(paths) > 1 else paths[0]
        patterns = sorted({posixpath.join(posixpath.dirname(uri), f"*{posixpath.splitext(uri)[1]}") for uri in uris})
        matched = [uri for uri in everything if any(fnmatch.fnmatchcase(uri, pattern) for pattern in patterns)]
        return [self._path(path) for path in (patterns if len(matched) == len(uris) else uris)]

    def _about_faults(self) -> Iterator[str]:
        """How many values break the schema that was inferred from them, because they look like faults."""
        numbers: Counter[tuple[str, str, str]] = Counter()
        for finding in self.found.listed:
            if finding.is_error and finding.field is not None:
                numbers[finding.code, finding.name, plain(finding.field)] += finding.num_violations
        for (code, name, field), number in numbers.items():
            yield f"#   {code} {name} in '{field}': {quantity(number, 'value')}"

    def _suggested_rules(self) -> Iterator[str]:
        """Rules to choose from, for what the schema allows and a model may not take."""
        fields = self.found.schema.fields.items()
        gaps = [
            name
            for name, field in fields
            if name is not None and (field.nullable or field.allow_nan) and _is_number(field.dtype)
        ]
        constant = [one.field for one in self.found.listed if one.code == "DC504" and one.rule is None and one.field]
        sentinels = [one for one in self.found.listed if one.code == "DC501" and one.field]
        if gaps or constant or sentinels:
            yield "# Rules to choose from; move one into 'clean' to use it:"
        for gap in gaps[:20]:
            yield f"#   - {_flow({'action': 'impute', 'strategy': 'median', 'fields': gap})}  # has nulls or NaN"
        for one in sentinels[:20]:
            rule = _flow({"action": "impute", "strategy": "median", "fields": one.field})
            yield f"#   - {rule}  # once 'missing: [{plain(one.rule or '', 40)}]' is in its field of the schema"
        for field in constant[:20]:
            yield f"#   - {_flow({'action': 'drop_field', 'fields': field})}  # has one value only"

    def configuration(self) -> str:
        """The configuration of ``datacheck scan``."""
        record: dict[str, Any] = {"paths": [self._path(self.folder)]}
        lines = [
            "# Drafted by 'datacheck init'. 'datacheck scan' checks the paths; 'datacheck config' shows the settings."
        ]
        if self.arrays is not None:
            note = f"# Each array is a file without field names, so {SCHEMA} is used by {PIPELINE} only: {_names(self.arrays)}."
            lines.append(note)
        elif self.others:
            suffixes = sorted({posixpath.splitext(uri)[1] for uris in self.splits.values() for uri in uris})
            folder = self._path(self.folder).rstrip("/")
            record["schemas"] = {f"{folder}/**/*{suffix}": SCHEMA for suffix in suffixes}
            lines.append("# Files of other formats have no schema: no NaN, no infinity, no null in a number.")
        else:
            record["schema"] = SCHEMA
        if self._path(self.folder) == ".":
            record["exclude"] = [f"/{_OUTPUT}/"]
            lines.append("# What the pipeline publishes is not checked with its inputs.")
        lines.append(dump_yaml(record).rstrip("\n"))
        if any(finding.is_error for finding in self.found.listed):
            lines.append("# To accept what is wrong today, and fail on anything new: datacheck baseline write")
        return "\n".join(lines) + "\n"


def _is_number(dtype: str | None) -> bool:
    return dtype_kind(dtype) in ("integer", "float")


def _names(arrays: Mapping[str, Mapping[str, str]]) -> str:
    return join_limited(sorted(next(iter(arrays.values()))))


def _flow(rule: Mapping[str, Any]) -> str:
    """A rule on one line."""
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in rule.items()) + "}"


def _scalar(value: Any) -> str:
    text = dump_yaml({"x": value}).removeprefix("x: ").rstrip("\n")
    is_plain = isinstance(value, str) and not set(value) & set(",[]{}#&*!|>'\"%@`\n")
    return text if is_plain else "'" + plain(str(value)).replace("'", "''") + "'"
