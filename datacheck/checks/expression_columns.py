"""What the names in an expression stand for: columns, fields of structs and of structs in lists, columns of arrays."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from datacheck.arrow_compute import pc
from datacheck.arrow_layouts import decode, python_value
from datacheck.checks.rules import format_value
from datacheck.schema.expression import ParsedExpression, parse_expression
from datacheck.schema.field_parts import NAMELESS, index_of, named_index, parts_of

if TYPE_CHECKING:
    from datacheck.batch import Batch
    from datacheck.schema.model import Field, Schema


Data: TypeAlias = "pa.Array | np.ndarray[Any, Any]"

#: The values of a list that an example shows.
_MAX_VALUES = 8


def with_indexes(expression: str, schema: Schema) -> ParsedExpression:
    """The expression, in which a column with a name, such as ``boxes["x1"]``, is its index."""
    parsed = parse_expression(expression)
    indexes = {name: found for name in parsed.names if (found := _indexed(name, schema)) is not None}
    if not indexes:
        return parsed

    class Indexer(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return indexes.get(node.id, node)

        def visit_Call(self, node: ast.Call) -> ast.expr:
            return ast.Call(node.func, [self.visit(argument) for argument in node.args], node.keywords)

    owners = [owner.id if isinstance(owner := indexes[name].value, ast.Name) else "" for name in indexes]
    kept = [name for name in parsed.names if name not in indexes]
    return ParsedExpression(parsed.text, Indexer().visit(parsed.tree), tuple(dict.fromkeys([*kept, *owners])))


def _indexed(name: str, schema: Schema) -> ast.Subscript | None:
    """A column that a field of the schema names, as an index of that field."""
    found = named_index(name, schema)
    if found is None:
        return None
    return ast.Subscript(ast.Name(found[0]), ast.Tuple([ast.Constant(index) for index in found[1]]))


def find_column(batch: Batch, name: str, schema: Schema) -> Data | None:
    """The column of a name, or the part of a column that a path such as ``struct.a`` or ``boxes[].x`` leads to.

    The nameless array of an ``.npy`` is called ``array``, or what the only field of the schema is called. A number, or
    the name of one of its columns, is that index of its last axis. None if there is no such column.
    """
    columns = {column.name: column for column in reversed(batch.columns)}
    if name in columns:
        return columns[name].data
    outer, dot, inner = name.partition(".")
    while dot:
        if outer in columns:
            return _inside(columns[outer].data, inner)
        if outer.endswith("[]") and outer.removesuffix("[]") in columns:
            return _inside_list(columns[outer.removesuffix("[]")].data, inner)
        step, dot, inner = inner.partition(".")
        outer = f"{outer}.{step}"
    return _of_nameless(columns[None].data, name, schema) if None in columns else None


def _of_nameless(data: Data, name: str, schema: Schema) -> Data | None:
    # A structured .npy is one nameless column whose fields have names.
    found = _inside(data, name)
    if found is not None:
        return found
    field: Field | None = schema.field_for(None)
    if name == NAMELESS or (field is not None and field is schema.fields.get(name)):
        return data
    is_part = field is not None and name in parts_of(field)[1]
    index = index_of(field, name) if is_part else int(name) if name.isdecimal() and len(name) < 10 else None
    if index is None or not isinstance(data, np.ndarray) or data.ndim < 2:
        return None
    axis = 1 if is_part and parts_of(field)[0] == "channels" else data.ndim - 1
    return np.take(data, index, axis=axis) if index < data.shape[axis] else None


def _inside(data: Data, path: str) -> Data | None:
    name, dot, rest = path.partition(".")
    if name.endswith("[]"):
        lists = _inside(data, name.removesuffix("[]"))
        return None if lists is None else _inside_list(lists, rest)
    inner: Data | None = None
    if isinstance(data, np.ndarray):
        inner = data[name] if name in (data.dtype.names or ()) else None
    elif pa.types.is_struct(data.type) and data.type.get_field_index(name) >= 0:
        # Unlike field(), flatten() makes the children of a null struct null.
        inner = data.flatten()[data.type.get_field_index(name)]
    return _inside(inner, rest) if dot and inner is not None else inner


def _inside_list(data: Data, path: str) -> Data | None:
    """Lists of structs as lists of one of their fields; all values of a list for an empty path."""
    if isinstance(data, np.ndarray):
        return None
    data = decode(data)
    kind = data.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    if not path:
        return data
    inner = _inside(data.flatten(), path)
    if inner is None:
        return None
    lengths = pc.fill_null(pc.list_value_length(data), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))
    return pa.LargeListArray.from_arrays(offsets, inner, mask=data.is_null() if data.null_count else None)


def show_value(column: Data, row: int) -> str:
    """The value of a row, for an example: of a long list its beginning, of an array its shape."""
    if isinstance(column, np.ndarray):
        if np.ma.getmaskarray(column).reshape(len(column), -1)[row].any() if np.ma.isMaskedArray(column) else False:
            return "null"
        value = column[row]
        if value.ndim > 1:
            return f"{value.dtype.name} of shape {value.shape}"
        return format_value(value) if value.ndim == 0 else _show_list(value[: _MAX_VALUES + 1].tolist(), len(value))
    found = column[row]
    if found.is_valid and isinstance(found, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
        return _show_list(found.values.slice(0, _MAX_VALUES + 1).to_pylist(), len(found.values))
    return format_value(python_value(found))


def _show_list(first: list[Any], length: int) -> str:
    if length <= _MAX_VALUES:
        return format_value(first)
    shown = ", ".join(format_value(value) for value in first[: _MAX_VALUES - 1])
    return f"[{shown}, … {length:,} values]"
