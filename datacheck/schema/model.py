"""The schema model: what the data must be, in pandera's terms."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, PrivateAttr, field_validator, model_validator
from pydantic import Field as Described

from datacheck.errors import nearest_name
from datacheck.schema.base_model import SchemaPart
from datacheck.schema.builtin_checks import check_problem
from datacheck.schema.constraints import check_field, number_of
from datacheck.schema.dataset_constraints import check_dataset_constraints, dataset_fields
from datacheck.schema.dataset_models import Dependencies, OwnChecks, References, Sequences, Splits
from datacheck.schema.dtypes import canonical_dtype, dtype_kind, dtype_problem
from datacheck.schema.expression import ExpressionSyntaxError, parse_expression
from datacheck.schema.field_parts import AS_STATED, as_parts, check_parts, split_part_path
from datacheck.schema.field_paths import find_field
from datacheck.schema.intervals import Count, Duration, Number, Quantiles, Shares
from datacheck.schema.meaning import Format, Missing, check_meaning
from datacheck.schema.references import REFERENCE
from datacheck.schema.tolerances import Tolerances
from datacheck.schema.validation import fault
from datacheck.schema.values import (
    Bound,
    DimensionName,
    Keys,
    Members,
    Plain,
    Scalar,
    as_expression,
    as_field,
    unwrapped,
)

__all__ = ["Expression", "Field", "Schema"]

_MAX_SIZE: Final = 1 << 40
#: Different values of a field that are told apart.
_MAX_DISTINCT: Final = 1 << 16


class Field(SchemaPart):
    """What one field must be.

    Attributes:
        dtype: a NumPy name for numbers (``float32``), ``bfloat16`` and ``float8_*`` (also if stored as unsigned
            integers), ``string``, ``binary``, or an Arrow name for the rest (``timestamp[us]``). For a list column, the
            dtype of its innermost values. Not checked unless set.
        shape: the shape, ``null`` for any length: for an array file the shape of the whole array, rows first
            (``[null, 24, 5]``); for a column the shape of one row's value (``[24, 5]``). A name is one size wherever it
            stands (``[3, H, W]`` and ``[H, W]``): within a row, or as far as ``dimensions`` of the schema says.
        nullable: whether nulls are allowed.
        allow_nan: whether NaN is allowed.
        allow_inf: whether +inf and -inf are allowed.
        required: whether the field must exist.
        unique: whether a value may occur only once in the whole dataset.
        coerce: whether another dtype that converts without loss is accepted, and converted when the data is cleaned.
            Fractions may be rounded.
        ge, le, gt, lt: bounds on every value that is neither null nor NaN. With ``allow_inf`` infinities are allowed
            whatever the bounds. Times are in ISO format.
        isin: the allowed values.
        str_matches: a regular expression that a string must match from its start.
        checks: more pandera checks by name, with their arguments.
        columns, channels: rules for single indices of the last axis, or of the first axis of one row's value, by number
            (from 0) or by name, in the order of the axis. What the field says holds for them as well.
        min_distinct, max_distinct: the number of different values in the whole dataset, without nulls and NaN;
            ``min_distinct: 2`` rules out a constant field.
        covers: values that must all occur in the dataset; ``{from: 0, to: 24}`` are all integers of a range.
        mean, std: bounds on the mean and the sample standard deviation of the finite values of the dataset.
        quantiles: bounds on quantiles: ``{0.5: {le: 40}}`` is the median. The quantile q is the smallest value that at
            least a share q of the finite values do not exceed.
        share: the share of ``null`` (of all values), or of ``nan``, ``inf``, ``zero`` or a class (of the values that are
            not null) in the dataset: bounds, or the most that is allowed (``{nan: 1%}``).
        max_age: how old the newest time in the dataset may be, such as ``7d``.
        own_checks: checks of your own, by the name of an entry point or as ``package.module:name``.
        missing: values that stand for a missing one, such as -999. They are counted as such (DC110), are left out of all
            other rules and statistics, and a repair can replace them. In a text file words count as null.
        not_blank, stripped, printable: whether texts must have a character that is not a blank, must neither begin nor end
            with a blank, and must have neither control characters nor U+FFFD.
        no_variants: whether no text of the dataset may differ from a more frequent one only in case or in blanks.
        min_length, max_length: the length of texts in characters, of binary values in bytes.
        vocab_size: the number of token ids; each value is at least 0 and below it.
        ignore_index: the value that a loss ignores, such as -100. It need not be in the vocabulary, and not all values of a
            row may be it.
        format: ``xyxy``, ``xywh`` or ``cxcywh`` for boxes, ``chat`` for lists of messages with ``role`` and ``content``.
        within: the width and the height that boxes must lie within; ``[1, 1]`` for normalised ones.
    """

    SYNONYMS: ClassVar[Mapping[str, str]] = {
        "type": "'dtype'",
        "data_type": "'dtype'",
        "min": "'ge'",
        "minimum": "'ge'",
        "min_value": "'ge'",
        "greater_than_or_equal_to": "'ge'",
        "greater_than": "'gt'",
        "max": "'le'",
        "maximum": "'le'",
        "max_value": "'le'",
        "less_than_or_equal_to": "'le'",
        "less_than": "'lt'",
        "in_range": "'ge' and 'le'",
        "range": "'ge' and 'le'",
        "enum": "'isin'",
        "values": "'isin'",
        "allowed_values": "'isin'",
        "pattern": "'str_matches'",
        "regex": "'str_matches'",
        "null": "'nullable'",
        "optional": "'required: false'",
        "nan": "'allow_nan'",
        "na_values": "'missing'",
        "null_values": "'missing'",
        "sentinels": "'missing'",
        "_FillValue": "'missing'",
        "min_len": "'min_length'",
        "max_len": "'max_length'",
        "inf": "'allow_inf'",
    }

    dtype: str | None = Described(
        default=None, description="The NumPy or Arrow name of the dtype, such as float32 or timestamp[us]."
    )
    shape: tuple[Annotated[int, Described(ge=0, le=_MAX_SIZE)] | DimensionName | None, ...] | None = Described(
        default=None,
        description="The shape, null for any length, or a name for one size wherever it stands ([3, H, W]): for an array"
        " with its rows first, for a column that of one value.",
    )
    nullable: bool = Described(default=False, strict=True, description="Whether nulls are allowed.")
    allow_nan: bool = Described(default=False, strict=True, description="Whether NaN is allowed.")
    allow_inf: bool = Described(default=False, strict=True, description="Whether +inf and -inf are allowed.")
    required: bool = Described(default=True, strict=True, description="Whether the field must exist.")
    unique: bool = Described(
        default=False, strict=True, description="Whether a value may occur only once in the whole dataset."
    )
    coerce: bool = Described(
        default=False, strict=True, description="Whether another dtype that converts without loss is accepted."
    )
    ge: Bound | None = Described(default=None, description="The lower bound. Times are in ISO format.")
    le: Bound | None = Described(default=None, description="The upper bound.")
    gt: Bound | None = Described(default=None, description="The exclusive lower bound.")
    lt: Bound | None = Described(default=None, description="The exclusive upper bound.")
    isin: tuple[Scalar, ...] | None = Described(default=None, description="The allowed values.")
    str_matches: str | None = Described(
        default=None, description="A regular expression that a string must match from its start."
    )
    checks: Plain = Described(default={}, description="More pandera checks by name, with their arguments.")
    min_distinct: int | None = Described(
        default=None, ge=1, description="The least number of different values in the dataset; 2 for no constant field."
    )
    max_distinct: int | None = Described(
        default=None, ge=1, le=_MAX_DISTINCT, description="The largest number of different values in the dataset."
    )
    covers: Members | None = Described(
        default=None, description="Values that must occur in the dataset: a list, or all integers {from: 0, to: 24}."
    )
    mean: Number | None = Described(default=None, description="Bounds on the mean over the dataset.")
    std: Number | None = Described(default=None, description="Bounds on the standard deviation over the dataset.")
    quantiles: Quantiles = Described(default={}, description="Bounds on quantiles, such as {0.5: {le: 40}}.")
    share: Shares = Described(
        default={}, description="Bounds on the share of null, nan, inf, zero, or of a class, such as {nan: 1%}."
    )
    max_age: Duration | None = Described(default=None, description="The age of the newest time, such as 7d.")
    own_checks: OwnChecks = Described(default=(), description="Checks of your own; naming one imports its code.")
    columns: Annotated[dict[str, Annotated[Field, AS_STATED]], BeforeValidator(as_parts)] = Described(
        default={},
        description="Rules for single indices of the last axis, by number, or by name in order: {0: {ge: 0}}.",
    )
    channels: Annotated[dict[str, Annotated[Field, AS_STATED]], BeforeValidator(as_parts)] = Described(
        default={}, description="Rules for single indices of the first axis of one row's value, like 'columns'."
    )
    missing: Missing = Described(default=(), description="Values that stand for a missing one, such as -999.")
    not_blank: bool = Described(
        default=False, strict=True, description="Whether texts must have a character that is not a blank."
    )
    stripped: bool = Described(
        default=False, strict=True, description="Whether texts must neither begin nor end with a blank."
    )
    printable: bool = Described(
        default=False, strict=True, description="Whether texts must have neither control characters nor U+FFFD."
    )
    no_variants: bool = Described(
        default=False, strict=True, description="Whether no text may differ from another one only in case or blanks."
    )
    min_length: int | None = Described(default=None, ge=0, description="The least number of characters, or bytes.")
    max_length: int | None = Described(default=None, ge=0, description="The largest number of characters, or bytes.")
    vocab_size: int | None = Described(default=None, ge=1, description="The number of token ids, which begin at 0.")
    ignore_index: int | None = Described(
        default=None, description="The value that a loss ignores, such as -100; not all values of a row may be it."
    )
    format: Format | None = Described(
        default=None, description="What a value is: boxes as xyxy, xywh or cxcywh, or a chat of messages."
    )
    within: tuple[float, float] | None = Described(
        default=None, description="The width and the height that boxes must lie within."
    )
    title: str | None = Described(default=None, description="A short name for readers.")
    description: str | None = Described(default=None, description="What the field means.")
    metadata: Plain = Described(default={}, description="Anything else; datacheck ignores it.")

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, name: str | None) -> str | None:
        if name is None:
            return None
        known = canonical_dtype(name)
        if known is None:
            raise ValueError(dtype_problem(name))
        return known

    @field_validator("shape", mode="before")
    @classmethod
    def _whole_sizes(cls, shape: object) -> object:
        if isinstance(shape, list | tuple):
            for position, size in enumerate(shape):
                is_known = size is None or (isinstance(size, str) and size.isidentifier())
                if not is_known and (isinstance(size, bool) or not isinstance(unwrapped(size), int)):
                    expected = "an integer, a name such as H, or null for any length"
                    raise fault((position,), f"expected {expected}, got {size!r}")
        return shape

    @model_validator(mode="before")
    @classmethod
    def _read_numbers(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        name = data.get("dtype")
        dtype = canonical_dtype(name) if isinstance(name, str) else None
        kind = dtype_kind(dtype)
        numbers = {key: number_of(data[key], kind) for key in ("ge", "le", "gt", "lt") if key in data}
        if isinstance(data.get("isin"), list | tuple):
            numbers["isin"] = [number_of(value, kind) for value in data["isin"]]
        if isinstance(data.get("covers"), list | tuple):
            numbers["covers"] = [number_of(value, kind) for value in data["covers"]]
        return {**data, **numbers}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        check_field(self)
        check_dataset_constraints(self)
        check_parts(self, _check_part)
        check_meaning(self)
        for name, arguments in self.checks.items():
            problem = check_problem(name, arguments)
            if problem is not None:
                raise fault(("checks", name), problem)
        return self


def _check_part(part: Field) -> None:
    check_field(part)
    check_meaning(part)
    check_dataset_constraints(part)


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

    Fields that are not in the schema are checked as without a schema (no NaN, no infinity, no null in a number or a
    boolean), and are findings themselves if the schema is ``strict``.
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
    missing: Missing = Described(default=(), description="Values that stand for a missing one in every field.")
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
        the dataset of rules about it; ``num_files``, ``references``, ``splits``, ``max_age`` and ``own_checks`` need more
        than the frame, and only travel in its ``metadata``.

        Raises:
            SchemaError: for a schema with the nameless field ``null``, which a data frame cannot have.
        """
        from datacheck.schema.pandera_writing import to_pandera

        return to_pandera(self)

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
                raise fault(("fields", name, "unique"), "a pattern stands for several fields, so it cannot be a key")
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
        """The fields that the schema names: those that it lists, and those of its keys and expressions."""
        of_rules = (parse_expression(expression.expr).names for expression in self.checks)
        listed = [name for name in self.fields if name is not None]
        return tuple(dict.fromkeys(itertools.chain(listed, *self.unique, *of_rules, dataset_fields(self))))

    def field_for(self, path: str | None) -> Field | None:
        """The field for a leaf: the field with the same path or a matching pattern, or for values of a list that of the list.

        For the nameless array of an ``.npy`` it is the field ``null``, or the only field of a schema with one field.
        """
        if path is None:
            if None in self.fields:
                return self.fields[None]
            return next(iter(self.fields.values())) if len(self.fields) == 1 else None
        return find_field(self.fields, path)

    def missing_for(self, path: str | None) -> tuple[bool | int | float | str, ...]:
        """The values that stand for a missing one in a leaf."""
        field = self.field_for(path)
        # The values of one column were looked at with those of its field.
        is_part = path is not None and path not in self.fields and split_part_path(path) is not None
        return (*(() if is_part else self.missing), *(field.missing if field is not None else ()))
