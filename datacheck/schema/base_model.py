"""The base of all parts of a schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from datacheck.errors import SchemaError
from datacheck.schema.validation import describe_errors


class SchemaPart(BaseModel):
    """The base of all parts of a schema: no unknown keys, immutable, errors raised as ``SchemaError``."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=True, hide_input_in_errors=True, defer_build=True
    )

    if not TYPE_CHECKING:

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                problems = describe_errors(type(self), data, error)
                lines = [f"{type(self).__name__}({path}): {problem}" for path, problem in problems]
                place, _, first = lines[0].partition(": ")
                raise SchemaError(place, "\n".join([first, *lines[1:]])) from None

        # Without this mark pydantic calls __init__ for the parts of a file too, and loses the path to them.
        __init__.__pydantic_base_init__ = True
