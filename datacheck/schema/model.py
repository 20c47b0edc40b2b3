"""The schema model: what the data must be, in pandera's terms."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, PrivateAttr, field_validator, model_validator
from pydantic import Field as Described

from datacheck.errors import OutputError, nearest_name
from datacheck.schema.base_model import SchemaPart
from datacheck.schema.dataset_constraints import dataset_fields
from datacheck.schema.dataset_models import Dependencies, OwnChecks, References, Sequences, Splits
from datacheck.schema.expression import ExpressionSyntaxError, parse_expression
from datacheck.schema.field import Field
from datacheck.schema.field_parts import split_part_path
from datacheck.schema.field_paths import find_field
from datacheck.schema.intervals import Count
from datacheck.schema.meaning import Missing, rules_of_images
from datacheck.schema.references import REFERENCE
from datacheck.schema.tolerances import Tolerances
from datacheck.schema.validation import fault
from datacheck.schema.values import (
    DimensionName,
    Keys,
    Plain,
    as_expression,
    as_field,
)
from datacheck.schema.yaml_file import dump_yaml
from datacheck.text import plain, quantity

__all__ = ["Expression", "Field", "Schema"]

_PLURALS = {"rule about keys": "rules about keys"}


class Expression(SchemaPart):
    """A cross-field rule that must hold in every row, such as ``arr_time > dep_time``."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"expression": "'expr'", "rule": "'expr'", "check": "'expr'"}

    expr: str = Described(description="The rule, such as arr_time > dep_time.")
    name: str | None = Described(
        default=None, min_length=1, description="The name in reports; the rule itself unless set."
    )
    description: str | None = Described(default=None, description="Why it must hold.")

    @field_validator("expr")
    @classmethod
    def _well_formed(cls, text: str) -> str:
        try:
            parse_expression(text)
        except ExpressionSyntaxError as error:
            raise ValueError(str(error)) from None
        return text

    @property
    def label(self) -> str:
        """The name of the rule in reports."""
        return self.name or self.expr


class Schema(SchemaPart):
    """What the data must be.

    Fields that are not in the schema are checked as without a schema: no NaN, no infinity, no null in a number or a
    boolean. They are findings themselves if the schema is ``strict``.
    """

    SYNONYMS: ClassVar[Mapping[str, str]] = {"columns": "'fields'", "features": "'fields'", "expressions": "'checks'"}

    version: int = Described(default=1, description="The version of this format.")
    name: str | None = Described(default=None, description="The name of the data.")
    description: str | None = Described(default=None, description="What the data is.")
    strict: bool = Described(
        default=False, strict=True, description="Whether a field that is not listed here is an error."
    )
    coerce: bool = Described(default=False, strict=True, description="The same as 'coerce: true' for every field.")
    unique: Keys = Described(
        default=(), description="A key that may occur only once in the whole dataset, or a list of keys."
    )
    fields: dict[str | None, Annotated[Field, BeforeValidator(as_field)]] = Described(
        default={}, description="The fields by name. The nameless array of an .npy file is the field null."
    )
    checks: tuple[Annotated[Expression, BeforeValidator(as_expression)], ...] = Described(
        default=(), description="Cross-field rules."
    )
    dimensions: dict[DimensionName, Literal["row", "file", "dataset"]] = Described(
        default={},
        description="Where a named size in a 'shape' is one size: {H: file}; within each row unless it says so.",
    )
    num_rows: Count | None = Described(default=None, description="The number of rows of the dataset.")
    num_files: Count | None = Described(default=None, description="The number of files of the dataset.")
    sequence: Sequences = Described(
        default=(), description="Rules about neighbouring rows, within groups: {by: series, on: time, step: 1h}."
    )
    determines: Dependencies = Described(default=(), description="Fields that determine others: {text: label}.")
    references: References = Described(default=(), description="Foreign keys: keys that occur in another file.")
    splits: Splits | None = Described(default=None, description="Rules across the training split and the others.")
    tolerances: Tolerances = Described(
        default={}, description="The violations to allow in each file, by field and code: {gust: {DC101: 1%}}."
    )
    own_checks: OwnChecks = Described(default=(), description="Checks of your own of the dataset.")
    missing: Missing = Described(default=(), description="Values that mark a missing one in every field.")
    pandera: str | None = Described(
        default=None, description="A pandera schema or model to check as well: package.module:Name."
    )
    metadata: Plain = Described(default={}, description="Anything else; datacheck ignores it.")

    _pandera_object: Any = PrivateAttr(default=None)
    _folder: str = PrivateAttr(default="")

    @property
    def pandera_object(self) -> Any:
        """A pandera ``DataFrameSchema`` that pandera itself must check in part; None without one."""
        return self._pandera_object

    @property
    def folder(self) -> str:
        """The folder of the schema's file, from which the paths in ``references`` start; empty for the current one."""
        return self._folder

    def to_yaml(self) -> str:
        """The schema as YAML that loads back as an equal one. Only what differs from the defaults is written.

        With a ``pandera`` reference, which fills in what the fields leave out, everything they state is written.
        """
        record = {"version": self.version, **self.model_dump(mode="json", exclude_defaults=True)}
        all_stated = self.pandera is not None
        record["fields"] = {
            name: field.model_dump(mode="json", exclude_unset=all_stated, exclude_defaults=not all_stated)
            for name, field in self.fields.items()
        }
        if not self.fields:
            del record["fields"]
        return dump_yaml(record)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the schema as a YAML file, which ``schema=`` and ``--schema`` take. Raises ``OutputError``."""
        try:
            Path(path).write_text(self.to_yaml(), encoding="utf-8")
        except OSError as error:
            hint = "" if Path(path).parent.is_dir() else "; create the folder first"
            raise OutputError(f"{plain(os.fspath(path))}: cannot be written: {error.strerror}{hint}") from None

    def summary(self) -> str:
        """What the schema has, in one line: ``8 fields, 2 checks, 1 sequence rule``."""
        counts = {
            "unique key": len(self.unique),
            "sequence rule": len(self.sequence),
            "size": sum(size is not None for size in (self.num_rows, self.num_files)),
            "rule about keys": len(self.determines) + len(self.references) + (self.splits is not None),
            "own check": len(self.own_checks),
        }
        others = [quantity(number, name, _PLURALS.get(name)) for name, number in counts.items() if number]
        has_first = self.fields or self.checks or not others
        first = [quantity(len(self.fields), "field"), quantity(len(self.checks), "check")] if has_first else []
        return ", ".join([*first, *others])

    def __str__(self) -> str:
        return self.to_yaml().rstrip("\n")

    def _repr_html_(self) -> str:
        """The schema in a notebook: what it has, and its YAML."""
        from html import escape

        title = escape(f"{self.name or 'schema'}: {self.summary()}")
        lines = "\n".join(plain(line, 400) for line in self.to_yaml().splitlines())
        draft = f"<pre style='max-height:520px;overflow:auto'>{escape(lines)}</pre>"
        return f"<details open><summary><b>{title}</b></summary>{draft}</details>"

    def keep_folder(self, folder: str) -> Schema:
        """A copy that knows the folder of its file."""
        copied = self.model_copy()
        copied._folder = folder
        return copied

    def keep_pandera(self, pandera_schema: Any) -> Schema:
        """A copy that keeps a pandera schema to check as well."""
        copied = self.model_copy()
        copied._pandera_object = pandera_schema
        return copied

    def to_pandera(self) -> Any:
        """Convert into a pandera ``DataFrameSchema``, with which pandas users can validate data frames.

        It rejects NaN and infinities where the schema does, as far as pandas can tell: in a NumPy column a NaN and a
        null are the same, so a field that allows one accepts both. Values inside lists and structs have no column in a
        data frame, and are not checked there. The checks of the schema's own ``pandera`` are included. The data frame is
        the dataset of rules about it. What pandera cannot check travels in its ``metadata``, and :attr:`not_in_pandera`
        lists it.

        Raises:
            SchemaError: for a schema with the nameless field ``null``, which a data frame cannot have.
        """
        from datacheck.schema.pandera_writing import to_pandera

        return to_pandera(self)

    @property
    def not_in_pandera(self) -> tuple[str, ...]:
        """What :meth:`to_pandera` only carries along in ``metadata``, by its place: ``splits``, ``fields.boxes.format``."""
        from datacheck.schema.pandera_writing import not_in_pandera

        return tuple(not_in_pandera(self))

    @field_validator("version")
    @classmethod
    def _known_version(cls, version: int) -> int:
        if version != 1:
            raise ValueError(f"unknown version {version}; this datacheck reads version 1")
        return version

    @field_validator("pandera")
    @classmethod
    def _reference(cls, reference: str | None) -> str | None:
        if reference is not None and not REFERENCE.fullmatch(reference):
            raise ValueError(f"expected 'package.module:Name', got {reference!r}")
        return reference

    @model_validator(mode="after")
    def _agree(self) -> Self:
        self._check_unique()
        labels: dict[str, int] = {}
        for position, expression in enumerate(self.checks):
            if expression.label in labels:
                other = f"checks[{labels[expression.label]}]"
                raise fault(("checks", position), f"'{expression.label}' already names {other}; give it another 'name'")
            labels[expression.label] = position
        return self

    def _check_unique(self) -> None:
        for name, field in self.fields.items():
            if field.unique and name is not None and "*" in name:
                raise fault(("fields", name, "unique"), "a pattern matches several fields, so it cannot be a key")
            if field.unique and name is not None and "[]" in name:
                raise fault(("fields", name, "unique"), "values inside a list are not rows, so they cannot be a key")
        used = {size for field in self.fields.values() for size in field.shape or () if isinstance(size, str)}
        for name in self.dimensions:
            if name not in used:
                raise fault(("dimensions", name), f"is in no 'shape'{nearest_name(name, used)}")
        for position, key in enumerate(self.unique):
            if not key:
                raise fault(("unique", position), "is empty; list at least one field")
            for name in key:
                if "[]" in name:
                    raise fault(("unique", position), f"'{name}' is inside a list, so it cannot be part of a key")
            if len(set(key)) < len(key):
                raise fault(("unique", position), "lists a field twice")

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that the schema names: in its list, its keys and its expressions."""
        of_rules = (parse_expression(expression.expr).names for expression in self.checks)
        listed = [name for name in self.fields if name is not None]
        return tuple(dict.fromkeys(itertools.chain(listed, *self.unique, *of_rules, dataset_fields(self))))

    @property
    def row_rules(self) -> tuple[Expression, ...]:
        """The expressions that must hold in every row: ``checks``, and what fields say of other fields."""
        return (*self.checks, *(Expression(**rule) for rule in rules_of_images(self.fields)))

    def field_for(self, path: str | None) -> Field | None:
        """The field for a leaf: the field with the same path or a matching pattern, or for values of a list the list's field.

        For the nameless array of an ``.npy`` it is the field ``null``, or the only field of a schema with one field.
        """
        if path is None:
            if None in self.fields:
                return self.fields[None]
            return next(iter(self.fields.values())) if len(self.fields) == 1 else None
        return find_field(self.fields, path)

    def missing_for(self, path: str | None) -> tuple[bool | int | float | str, ...]:
        """The values that mark a missing one in a leaf."""
        field = self.field_for(path)
        # The values of one column were looked at with its field.
        is_part = path is not None and path not in self.fields and split_part_path(path) is not None
        return (*(() if is_part else self.missing), *(field.missing if field is not None else ()))
