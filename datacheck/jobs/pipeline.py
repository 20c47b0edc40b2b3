"""The pipeline file: inputs, schema, cleaning rules, output."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from pydantic import Field as ModelField

from datacheck.cleaning.plan import CleaningPlan, Otherwise
from datacheck.cleaning.rules import Impute, Rule
from datacheck.errors import PipelineError, nearest_name
from datacheck.jobs.reading import Reading
from datacheck.schema.model import Schema
from datacheck.schema.references import REFERENCE
from datacheck.schema.validation import fault, validate
from datacheck.sources.base import ReadOptions, RowsAre
from datacheck.storage.documents import exists, folder_of, is_uri, join_path, load_schema, load_yaml
from datacheck.storage.os_calls import local_uri
from datacheck.text import join_limited, plain

#: Folder names that every output uses.
RESERVED_SPLITS = ("ledger", "quarantine")

_SPLIT = re.compile(r"[^\W_][\w-]{0,99}")

Paths = str | tuple[str, ...] | dict[str, str]


class RowsInput(BaseModel):
    """An input that says what the rows of its files of arrays are.

    Attributes:
        path: a file, folder or glob, or a list of them.
        rows: ``file`` if each file is one sample, ``first-axis`` if it holds many along its first axis.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | tuple[str, ...]
    rows: RowsAre

    @staticmethod
    def is_meant(written: Any) -> bool:
        """Whether a mapping is one of these. Any other is array files by field."""
        return isinstance(written, dict) and set(written) == {"path", "rows"} and written["rows"] in get_args(RowsAre)


def split_problem(split: str) -> str | None:
    """Why a split cannot have this name, which becomes a folder of the output; None if it can."""
    if split not in RESERVED_SPLITS and _SPLIT.fullmatch(split):
        return None
    return f"{plain(split)!r} is not a valid folder name for the output; use letters, digits, - and _"


class Output(BaseModel):
    """Where and how to write the cleaned data.

    All other keys are options of the format, such as ``compression``.

    Attributes:
        path: the folder.
        format: the format of the files; by default the same as the input's.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    path: str
    format: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class PipelineFile(BaseModel):
    """The content of a pipeline file.

    Attributes:
        version: the version of the file format, 1.
        name: the name of the pipeline; by default the name of the file.
        description: what the pipeline is for.
        schema_: a schema file, relative to this file, or the schema itself.
        inputs: split -> a file, folder or glob, a list of them, or array files by field.
        fit: the split that statistics are learned from.
        clean: the rules, in order; the first that matches a violation decides.
        otherwise: what happens to a violation that no rule decides.
        output: where and how to write what was cleaned.
        reading: how files are read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    version: int = 1
    name: str | None = None
    description: str | None = None
    schema_: str | dict[str, Any] | None = ModelField(default=None, alias="schema")
    inputs: dict[str, Paths | RowsInput]
    fit: str | None = None
    clean: tuple[Rule, ...] = ()
    otherwise: Otherwise = "quarantine"
    output: Output
    reading: Reading = Reading()

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_input(cls, inputs: Any) -> Any:
        """An input without a split is the split ``data``."""
        if isinstance(inputs, str | list) or RowsInput.is_meant(inputs):
            inputs = {"data": inputs}
        if not isinstance(inputs, dict):
            return inputs
        return {
            split: RowsInput.model_validate(written) if RowsInput.is_meant(written) else written
            for split, written in inputs.items()
        }

    @field_validator("output", mode="before")
    @classmethod
    def _is_mapping(cls, output: Any) -> Any:
        if isinstance(output, str):
            raise ValueError(f"expected a mapping, got {output!r}; write {{path: {output}}}")
        return output

    @field_validator("version")
    @classmethod
    def _known_version(cls, version: int) -> int:
        if version != 1:
            raise ValueError(f"unsupported version {version}, expected 1")
        return version

    @model_validator(mode="after")
    def _check(self) -> PipelineFile:
        if not self.inputs:
            raise fault("inputs", "is empty; add a split and its files, such as 'train: data/train'")
        for split, paths in self.inputs.items():
            if problem := split_problem(split):
                raise fault(("inputs", split), problem)
            if not (paths.path if isinstance(paths, RowsInput) else paths):
                raise fault(("inputs", split), "is empty; give a file, a folder or a glob")
        if self.fit is not None and self.fit not in self.inputs:
            hint = nearest_name(self.fit, self.inputs) or f"; the splits are {join_limited(list(self.inputs))}"
            raise fault("fit", f"unknown split {plain(self.fit)!r}{hint}")
        return self


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline that is ready to run: its schema is loaded, and its paths are resolved from the folder of its file.

    Attributes:
        inputs: for each split its paths, or the array files of a table by field.
        rows: for each split that says so, what the rows of its files of arrays are.
        fit: the split to learn statistics from; None if not given.
        output: the URI of the output folder.
        folder: the folder of the file. Inputs are identified by their path from there.
    """

    file: str
    name: str
    schema: Schema
    inputs: Mapping[str, tuple[str, ...] | Mapping[str, str]]
    fit: str | None
    plan: CleaningPlan
    output: str
    format: str | None
    format_options: Mapping[str, Any]
    reading: ReadOptions
    folder: str = "."
    rows: Mapping[str, RowsAre] = field(default_factory=dict)


def load_pipeline(file: str | os.PathLike[str]) -> Pipeline:
    """Load a pipeline file; raises ``PipelineError`` and ``SchemaError`` with the location in the file."""
    path = os.fspath(file)
    place = plain(path)
    mapping = load_yaml(path, PipelineError)
    if "fields" in mapping and "inputs" not in mapping:
        raise PipelineError(
            place, "is a schema, not a pipeline; check data with it: 'datacheck scan PATH --schema FILE'"
        )
    written = validate(PipelineFile, mapping, place, PipelineError)
    folder = folder_of(path)
    fit = written.fit
    if fit is None and len(written.inputs) == 1:
        fit = next(iter(written.inputs))
    if fit is None and "train" in written.inputs:
        fit = "train"
    return Pipeline(
        place,
        written.name or PurePosixPath(local_uri(path)).stem,
        _with_optional_indicators(_schema(written.schema_, folder, place), written.clean),
        {split: _resolved(paths, folder) for split, paths in written.inputs.items()},
        fit,
        CleaningPlan(written.clean, written.otherwise, place),
        output_uri(join_path(folder, written.output.path)),
        written.output.format,
        written.output.options,
        written.reading.options,
        folder,
        {split: paths.rows for split, paths in written.inputs.items() if isinstance(paths, RowsInput)},
    )


def _schema(reference: str | dict[str, Any] | None, folder: str, place: str) -> Schema:
    """Load the schema that is referenced, or written in the pipeline file itself."""
    if isinstance(reference, str) and not (REFERENCE.fullmatch(reference) and not exists(join_path(folder, reference))):
        reference = join_path(folder, reference)
    if isinstance(reference, dict):
        from datacheck.schema.loading import parse_schema

        return parse_schema(reference, f"{place}: schema")
    return load_schema(reference)


def _with_optional_indicators(schema: Schema, rules: Iterable[Rule]) -> Schema:
    """The schema for the inputs, which need not have the fields that the rules add to the output."""
    added = {
        rule.indicator_name(path)
        for rule in rules
        if isinstance(rule, Impute)
        for path in schema.fields
        if path is not None and rule.matches(path)
    }
    optional = {
        name: schema.fields[name].model_copy(update={"required": False}) for name in added & schema.fields.keys()
    }
    return schema.model_copy(update={"fields": {**schema.fields, **optional}}) if optional else schema


def _resolved(paths: Paths | RowsInput, folder: str) -> tuple[str, ...] | dict[str, str]:
    if isinstance(paths, RowsInput):
        paths = paths.path
    if isinstance(paths, dict):
        return {field: join_path(folder, path) for field, path in paths.items()}
    return tuple(join_path(folder, path) for path in ((paths,) if isinstance(paths, str) else paths))


def output_uri(path: str | os.PathLike[str]) -> str:
    """An output folder's URI: a local path without redundant parts, or the URI of a storage as it is."""
    uri = os.fspath(path)
    return uri if is_uri(uri) else Path(uri).as_posix()
