"""The model of one field: what its values must be, in pandera's terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BeforeValidator, field_validator, model_validator
from pydantic import Field as Described

from datacheck.schema.base_model import SchemaPart
from datacheck.schema.constraints import check_field, number_of
from datacheck.schema.dataset_constraints import check_dataset_constraints
from datacheck.schema.dataset_models import OwnChecks
from datacheck.schema.dtypes import canonical_dtype, dtype_kind, dtype_problem
from datacheck.schema.field_parts import AS_STATED, as_parts, check_parts
from datacheck.schema.intervals import Duration, Number, Quantiles, Shares
from datacheck.schema.meaning import Format, Missing, check_meaning
from datacheck.schema.validation import fault
from datacheck.schema.values import Bound, DimensionName, FieldName, Members, Plain, Scalar, unwrapped

_MAX_SIZE: Final = 1 << 40
#: Different values of a field that are distinguished.
_MAX_DISTINCT: Final = 1 << 16


def _flag(description: str, *, default: bool = False) -> Any:
    return Described(default=default, strict=True, description=description)


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
        missing: values that mark a missing one, such as -999. They are counted as such (DC110), are left out of all
            other rules and statistics, and a repair can replace them. In a text file words count as null.
        not_blank, stripped, printable: whether texts must have a character that is not a blank, must neither begin nor end
            with a blank, and must have neither control characters nor U+FFFD.
        no_variants: whether no text of the dataset may differ from a more frequent one only in case or in blanks.
        min_length, max_length: the length of texts in characters, of binary values in bytes.
        vocab_size: the number of token ids; each value is at least 0 and below it.
        ignore_index: the value that a loss ignores, such as -100. It need not be in the vocabulary, and not all values of a
            row may be it.
        format: ``xyxy``, ``xywh`` or ``cxcywh`` for boxes, ``chat`` for lists of messages with ``role`` and ``content``.
        within: the width and the height that boxes must lie within; ``[1, 1]`` for normalised ones. A name refers to a field
            of the row that has the size, or, alone, of the image.
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
        "between": "'ge' and 'le'",
        "enum": "'isin'",
        "values": "'isin'",
        "allowed_values": "'isin'",
        "pattern": "'str_matches'",
        "regex": "'str_matches'",
        "null": "'nullable'",
        "not_null": "'nullable: false', the default",
        "non_null": "'nullable: false', the default",
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
        description="The shape of an array with its rows first, or of one value of a column: null for any length, a name"
        " for a size that is the same wherever it occurs ([3, H, W]).",
    )
    nullable: bool = _flag("Whether nulls are allowed.")
    allow_nan: bool = _flag("Whether NaN is allowed.")
    allow_inf: bool = _flag("Whether +inf and -inf are allowed.")
    required: bool = _flag("Whether the field must exist.", default=True)
    unique: bool = _flag("Whether a value may occur only once in the whole dataset.")
    coerce: bool = _flag("Whether another dtype that converts without loss is accepted.")
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
    missing: Missing = Described(default=(), description="Values that mark a missing one, such as -999.")
    not_blank: bool = _flag("Whether texts must have a character that is not a blank.")
    stripped: bool = _flag("Whether texts must neither begin nor end with a blank.")
    printable: bool = _flag("Whether texts must have neither control characters nor U+FFFD.")
    no_variants: bool = _flag("Whether no text may differ from another one only in case or blanks.")
    min_length: int | None = Described(default=None, ge=0, description="The least number of characters, or bytes.")
    max_length: int | None = Described(default=None, ge=0, description="The largest number of characters, or bytes.")
    vocab_size: int | None = Described(default=None, ge=1, description="The number of token ids, which begin at 0.")
    ignore_index: int | None = Described(
        default=None, description="The value that a loss ignores, such as -100; a row must have other values, too."
    )
    format: Format | None = Described(
        default=None, description="What a value is: boxes as xyxy, xywh or cxcywh, or a chat of messages."
    )
    within: tuple[float | FieldName, float | FieldName] | FieldName | None = Described(
        default=None,
        description="The width and the height that boxes must lie within: numbers, names of fields, or the name of the image.",
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
        if "shares" in data and "share" not in data:
            data = {("share" if key == "shares" else key): value for key, value in data.items()}
        return {**data, **numbers}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        check_field(self)
        check_dataset_constraints(self)
        check_parts(self, _check_part)
        check_meaning(self)
        return self


def _check_part(part: Field) -> None:
    check_field(part)
    check_meaning(part)
    check_dataset_constraints(part)
