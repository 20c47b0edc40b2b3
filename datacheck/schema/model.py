"""The schema model: what the data must be, in pandera's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic import Field as Described

from datacheck.errors import SchemaError, nearest_name
from datacheck.schema.constraints import check_field, number_of
from datacheck.schema.dtypes import canonical_dtype, dtype_kind, dtype_problem
from datacheck.schema.expression import ExpressionSyntaxError, parse_expression
from datacheck.schema.references import REFERENCE
from datacheck.schema.validation import describe_errors, fault
from datacheck.schema.values import Bound, Keys, Plain, Scalar, as_expression, as_field, unwrapped
from datacheck.schema.words import check_problem

__all__ = ["Expression", "Field", "Schema"]

_MAX_SIZE: Final = 1 << 40


class _Model(BaseModel):
    """What the parts of a schema share: no unknown keys, no change once made, errors that are ``SchemaError``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True, hide_input_in_errors=True)

    if not TYPE_CHECKING:

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                problems = describe_errors(type(self), data, error)
                lines = [f"{type(self).__name__}({path}): {problem}" for path, problem in problems]
                place, _, first = lines[0].partition(": ")
                raise SchemaError(place, "\n".join([first, *lines[1:]])) from None

        # Without this mark pydantic would call __init__ for parts of a file too, and lose the path to them.
        __init__.__pydantic_base_init__ = True


class Field(_Model):
    """What one field must be.

    Attributes:
        dtype: NumPy's name for numbers (``float32``), ``bfloat16`` and ``float8_*`` (also where an unsigned integer
            stores them), ``string``, ``binary``, or Arrow's name for the rest (``timestamp[us]``). Of a list column:
            that of its innermost values. Not checked unless set.
        shape: the shape of the value that the field names, ``null`` for any length: of an array file the whole array,
            rows first (``[null, 24, 5]``); of a column the value of one row (``[24, 5]``).
        nullable: whether nulls are allowed.
        allow_nan: whether NaN is allowed.
        allow_inf: whether +inf and -inf are allowed.
        required: whether the field must be there.
        unique: whether a value may stand only once in the whole data set.
        coerce: whether another dtype that converts without loss is accepted, and converted when the data is cleaned; a
            fraction may be rounded.
        ge, le, gt, lt: bounds on every value that is present and not NaN; where ``allow_inf`` is set, infinities are
            allowed whatever the bounds say. Times are written in ISO form.
        isin: the values that are allowed.
        str_matches: a regular expression that a string must match from its start.
        checks: further pandera checks by name, with their arguments.
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
        "inf": "'allow_inf'",
    }

    dtype: str | None = Described(
        default=None, description="NumPy's or Arrow's name of the dtype, such as float32 or timestamp[us]."
    )
    shape: tuple[Annotated[int, Described(ge=0, le=_MAX_SIZE)] | None, ...] | None = Described(
        default=None,
        description="The shape, null for any length: of an array with its rows first, of a column that of a value.",
    )
    nullable: bool = Described(default=False, strict=True, description="Whether nulls are allowed.")
    allow_nan: bool = Described(default=False, strict=True, description="Whether NaN is allowed.")
    allow_inf: bool = Described(default=False, strict=True, description="Whether +inf and -inf are allowed.")
    required: bool = Described(default=True, strict=True, description="Whether the field must be there.")
    unique: bool = Described(
        default=False, strict=True, description="Whether a value may stand only once in the whole data set."
    )
    coerce: bool = Described(
        default=False, strict=True, description="Whether another dtype that converts without loss is accepted."
    )
    ge: Bound | None = Described(default=None, description="The lower bound. Times are written in ISO form.")
    le: Bound | None = Described(default=None, description="The upper bound.")
    gt: Bound | None = Described(default=None, description="The lower bound, itself not allowed.")
    lt: Bound | None = Described(default=None, description="The upper bound, itself not allowed.")
    isin: tuple[Scalar, ...] | None = Described(default=None, description="The values that are allowed.")
    str_matches: str | None = Described(
        default=None, description="A regular expression that text must match from its start."
    )
    checks: Plain = Described(default={}, description="Further pandera checks by name, with their arguments.")
    title: str | None = Described(default=None, description="A short name for people.")
    description: str | None = Described(default=None, description="What the field means.")
    metadata: Plain = Described(default={}, description="Anything else; datacheck does not read it.")

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
                if isinstance(size, bool | str) or (size is not None and not isinstance(unwrapped(size), int)):
                    raise fault((position,), f"must be a whole number, or null for any length, and is {size!r}")
        return shape

    @model_validator(mode="before")
    @classmethod
    def _read_numbers(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        name = data.get("dtype")
        dtype = canonical_dtype(name) if isinstance(name, str) else None
        kind = dtype_kind(dtype)
        numbers = {word: number_of(data[word], kind) for word in ("ge", "le", "gt", "lt") if word in data}
        if isinstance(data.get("isin"), list | tuple):
            numbers["isin"] = [number_of(value, kind) for value in data["isin"]]
        return {**data, **numbers}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        check_field(self)
        for name, arguments in self.checks.items():
            problem = check_problem(name, arguments)
            if problem is not None:
                raise fault(("checks", name), problem)
        return self


class Expression(_Model):
    """A rule across fields that must hold in every row, such as ``arr_time > dep_time``."""

    SYNONYMS: ClassVar[Mapping[str, str]] = {"expression": "'expr'", "rule": "'expr'", "check": "'expr'"}

    expr: str = Described(description="The rule, such as arr_time > dep_time.")
    name: str | None = Described(
        default=None, min_length=1, description="What reports call it; the rule itself unless set."
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
        """What reports call the rule."""
        return self.name or self.expr


class Schema(_Model):
    """What the data must be.

    Fields that the schema does not name are held to the rule that holds without a schema (no NaN, no infinity), and
    are findings of their own where the schema is ``strict``.
    """

    SYNONYMS: ClassVar[Mapping[str, str]] = {"columns": "'fields'", "features": "'fields'", "expressions": "'checks'"}

    version: int = Described(default=1, description="The version of this format.")
    name: str | None = Described(default=None, description="What the data is called.")
    description: str | None = Described(default=None, description="What the data is.")
    strict: bool = Described(
        default=False, strict=True, description="Whether a field that is not named here is an error."
    )
    coerce: bool = Described(default=False, strict=True, description="The same as 'coerce: true' in every field.")
    unique: Keys = Described(
        default=(), description="A key that may stand only once in the whole data set, or a list of keys."
    )
    fields: dict[str | None, Annotated[Field, BeforeValidator(as_field)]] = Described(
        default={}, description="The fields by name. The nameless array of an .npy file is the field null."
    )
    checks: tuple[Annotated[Expression, BeforeValidator(as_expression)], ...] = Described(
        default=(), description="Rules across fields."
    )
    pandera: str | None = Described(
        default=None, description="A pandera schema or model that must hold as well: package.module:Name."
    )
    metadata: Plain = Described(default={}, description="Anything else; datacheck does not read it.")

    _pandera_object: Any = PrivateAttr(default=None)

    @property
    def pandera_object(self) -> Any:
        """A pandera ``DataFrameSchema`` given in memory, part of which has no word of ours; None without one."""
        return self._pandera_object

    def keep_pandera(self, pandera_schema: Any) -> Schema:
        """A copy that keeps a pandera schema, to be checked as well."""
        copied = self.model_copy()
        copied._pandera_object = pandera_schema
        return copied

    def to_pandera(self) -> Any:
        """Convert into a pandera ``DataFrameSchema``, with which pandas users can validate data frames.

        It rejects NaN and infinities where the schema does, as far as pandas can tell: in a NumPy column a NaN and a
        null are the same, so a field that allows one accepts both. Values inside lists and structs have no column in a
        data frame, and are not checked there. The checks of the schema's own ``pandera`` are included.

        Raises:
            SchemaError: for a schema with the nameless field ``null``, which a data frame cannot have.
        """
        from datacheck.schema.pandera_writing import to_pandera

        return to_pandera(self)

    @field_validator("version")
    @classmethod
    def _known_version(cls, version: int) -> int:
        if version != 1:
            raise ValueError(f"{version} is not a version that is known; this datacheck reads version 1")
        return version

    @field_validator("pandera")
    @classmethod
    def _reference(cls, reference: str | None) -> str | None:
        if reference is not None and not REFERENCE.fullmatch(reference):
            raise ValueError(f"must be 'package.module:Name', and is {reference!r}")
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
            for name in parse_expression(expression.expr).names:
                self._check_known(("checks", position, "expr"), name)
        return self

    def _check_unique(self) -> None:
        for name, field in self.fields.items():
            if field.unique and name is not None and "[]" in name:
                raise fault(("fields", name, "unique"), "a value inside a list is no row, so it cannot be a key")
        for position, key in enumerate(self.unique):
            if not key:
                raise fault(("unique", position), "names no field")
            for name in key:
                self._check_known(("unique", position), name)
                if "[]" in name:
                    raise fault(("unique", position), f"'{name}' is inside a list, so it cannot be part of a key")
            if len(set(key)) < len(key):
                raise fault(("unique", position), "names a field twice")

    def _check_known(self, at: tuple[str | int, ...], name: str) -> None:
        if self.fields and name not in self.fields:
            hint = nearest_name(name, [known for known in self.fields if known is not None])
            raise fault(at, f"'{name}' is not one of the schema's fields{hint or '; add it to them'}")

    def field_for(self, path: str | None) -> Field | None:
        """The field that governs a leaf: the exact path; for the values of a list also that of the list.

        The nameless array of an ``.npy`` is governed by the field ``null``, or by the one field of a schema that has
        only one.
        """
        if path is None:
            if None in self.fields:
                return self.fields[None]
            return next(iter(self.fields.values())) if len(self.fields) == 1 else None
        while path not in self.fields:
            if not path.endswith("[]"):
                return None
            path = path.removesuffix("[]")
        return self.fields[path]
