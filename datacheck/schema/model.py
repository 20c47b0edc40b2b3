"""The schema model: what the data must be, in pandera's words."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Expression", "Field", "Schema"]

Bound = int | float | str
Scalar = bool | int | float | str


class Field(BaseModel):
    """What one field must be.

    Attributes:
        dtype: NumPy's name for numbers (``float32``), ``bfloat16`` and ``float8_*`` (also where an unsigned integer
            stores them), ``string``, ``binary``, or Arrow's name for the rest (``timestamp[us]``). Of a list column: that of
            its innermost values. Not checked unless set.
        shape: the shape of the value that the field names, ``null`` for any length: of an array file the whole array,
            rows first (``[null, 24, 5]``); of a column the value of one row (``[24, 5]``).
        nullable: whether nulls are allowed.
        allow_nan: whether NaN is allowed.
        allow_inf: whether +inf and -inf are allowed.
        required: whether the field must be there.
        unique: whether a value may stand only once in the whole data set.
        coerce: whether another dtype that converts without loss is accepted, and converted when the data is cleaned.
        ge, le, gt, lt: bounds on every value that is present and finite; an infinity is judged by ``allow_inf`` alone.
        isin: the values that are allowed.
        str_matches: a regular expression that a string must match from its start.
        checks: further pandera checks by name, with their arguments.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: str | None = None
    shape: tuple[int | None, ...] | None = None
    nullable: bool = False
    allow_nan: bool = False
    allow_inf: bool = False
    required: bool = True
    unique: bool = False
    coerce: bool = False
    ge: Bound | None = None
    le: Bound | None = None
    gt: Bound | None = None
    lt: Bound | None = None
    isin: tuple[Scalar, ...] | None = None
    str_matches: str | None = None
    checks: dict[str, Any] = {}
    title: str | None = None
    description: str | None = None
    metadata: dict[str, Any] = {}


class Expression(BaseModel):
    """A rule across fields that must hold in every row, such as ``arr_time > dep_time``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    expr: str
    name: str | None = None
    description: str | None = None


class Schema(BaseModel):
    """What the data must be.

    Fields that the schema does not name are held to the rule that holds without a schema (no NaN, no infinity), and
    are findings of their own where the schema is ``strict``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    name: str | None = None
    description: str | None = None
    strict: bool = False
    coerce: bool = False
    unique: tuple[tuple[str, ...], ...] = ()
    fields: dict[str | None, Field] = {}
    checks: tuple[Expression, ...] = ()
    pandera: str | None = None
    metadata: dict[str, Any] = {}

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
