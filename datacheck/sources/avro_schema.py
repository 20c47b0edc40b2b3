"""Schemas of Avro: their Arrow types, and how much a few bytes of a file may become by them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from datacheck.errors import SourceError
from datacheck.sources.base import REWRITE_FILE
from datacheck.text import plain

#: How many levels of types a schema may have.
_MAX_DEPTH = 64
_BATCH_RECORDS, _BATCH_VALUES = 8192, 1 << 21
_PLAIN = {
    "null": pa.null(), "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(),
    "double": pa.float64(), "bytes": pa.binary(), "string": pa.string(),
}  # fmt: skip
_LOGICAL = {
    "date": pa.date32(), "time-millis": pa.time32("ms"), "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", "UTC"), "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"), "local-timestamp-micros": pa.timestamp("us"), "uuid": pa.string(),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SchemaSize:
    """How many fields a value of a type has, itself or inside, and how much memory a byte of it in the file may take."""

    num_fields: int = 1
    bytes_of_byte: int = 4

    @property
    def num_records_at_once(self) -> int:
        return max(1, min(_BATCH_RECORDS, _BATCH_VALUES // max(self.num_fields, 1)))


def check_schema(uri: str, schema: Any) -> None:
    """Raise ``SourceError`` for a schema that lets a few bytes make a reader run out of memory or stack."""
    pending: list[tuple[Any, int, frozenset[str]]] = [(schema, 0, frozenset())]
    named: set[str] = set()
    while pending:
        one, depth, above = pending.pop()
        if depth > _MAX_DEPTH or len(named) > 10_000:
            raise SourceError("DC904", uri, f"its schema has more than {_MAX_DEPTH} levels", REWRITE_FILE)
        if isinstance(one, list):
            pending += [(part, depth + 1, above) for part in one]
            continue
        if not isinstance(one, dict):
            if one in above:
                problem = f"its schema is recursive: {plain(str(one), 80)} holds itself"
                raise SourceError("DC901", uri, problem, "write it without, or convert it to Parquet")
            continue
        kind = one.get("type")
        if kind in ("array", "map"):
            inner = one.get("items" if kind == "array" else "values")
            if kind == "array" and not _takes_bytes(inner):
                raise SourceError("DC904", uri, "an array of its schema has items that take no bytes", REWRITE_FILE)
            pending.append((inner, depth + 1, above))
        elif kind in ("record", "error"):
            name = str(one.get("name"))
            named.add(name)
            inner_names = above | {name, f"{one.get('namespace', '')}.{name}"}
            pending += [(part.get("type"), depth + 1, inner_names) for part in one.get("fields", ())]
        elif isinstance(kind, dict | list):
            pending.append((kind, depth + 1, above))
        elif kind in above:
            raise SourceError(
                "DC901", uri, f"its schema is recursive: {plain(str(kind), 80)} holds itself", REWRITE_FILE
            )


def size_of(schema: Any, named: dict[str, SchemaSize]) -> SchemaSize:
    """The size of a checked schema. A few named types that hold each other twice can have fields without end."""
    if isinstance(schema, list):
        return _together(size_of(one, named) for one in schema)
    if not isinstance(schema, dict):
        return named.get(str(schema).rpartition(".")[2], SchemaSize())
    kind, name = schema.get("type"), str(schema.get("name")).rpartition(".")[2]
    if kind in ("array", "map"):
        items = schema.get("items" if kind == "array" else "values")
        inner = size_of(items, named)
        # An item of one byte is an object in a list or a dict, and a value in a column.
        of_item = {"float": 12, "double": 8}.get(items, 100) if kind == "array" and isinstance(items, str) else 100
        return SchemaSize(inner.num_fields + 1, max(inner.bytes_of_byte, of_item))
    if kind in ("record", "error"):
        size = _together([SchemaSize(), *(size_of(part.get("type"), named) for part in schema.get("fields", ()))])
    elif kind == "enum":
        longest = max((len(str(symbol).encode("utf-8", "replace")) for symbol in schema.get("symbols", ())), default=0)
        size = SchemaSize(1, max(4, 4 * longest))
    elif isinstance(kind, dict | list):
        return size_of(kind, named)
    else:
        size = named.get(str(kind).rpartition(".")[2], SchemaSize())
    if "name" in schema:
        # Types of several namespaces may have one name.
        named[name] = _together([size, named[name]]) if name in named else size
    return size


def _together(sizes: Iterable[SchemaSize]) -> SchemaSize:
    some = list(sizes)
    return SchemaSize(
        min(sum(one.num_fields for one in some), 1 << 40), max((one.bytes_of_byte for one in some), default=4)
    )


def _takes_bytes(schema: Any) -> bool:
    """Whether every value of a type takes at least one byte. A name that is used again is not looked up."""
    if isinstance(schema, list):
        return True
    kind = schema.get("type") if isinstance(schema, dict) else schema
    if kind in ("record", "error"):
        return any(_takes_bytes(part.get("type")) for part in schema.get("fields", ()))
    if kind == "fixed":
        return bool(schema.get("size"))
    if isinstance(kind, dict | list):
        return _takes_bytes(kind)
    return (kind in _PLAIN and kind != "null") or kind in ("array", "map", "enum")


def arrow_schema(uri: str, schema: Any, columns: tuple[str, ...] | None) -> pa.Schema:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise SourceError(
            "DC901", uri, "its records have no named fields", "write it with records, or convert it to Parquet"
        )
    kind = _arrow_type(schema, {})
    return pa.schema([field for field in kind if columns is None or field.name in columns])


def _arrow_type(schema: Any, names: dict[str, pa.DataType]) -> pa.DataType:
    """The Arrow type of an Avro type; raises ``ValueError`` for one that has none."""
    if isinstance(schema, list):
        others = [part for part in schema if part != "null"]
        if len(others) != 1:
            raise ValueError(f"a union of {len(others)} types has no column type")
        return _arrow_type(others[0], names)
    if not isinstance(schema, dict):
        known = _PLAIN.get(schema) if isinstance(schema, str) else None
        if known is None:
            known = names.get(str(schema)) or names.get(str(schema).rpartition(".")[2])
        if known is None:
            raise ValueError(f"the type {plain(str(schema), 80)} is not known")
        return known
    kind, logical = schema.get("type"), schema.get("logicalType")
    if logical == "decimal" and kind in ("bytes", "fixed"):
        return pa.decimal256(int(schema["precision"]), int(schema.get("scale", 0)))
    if logical in _LOGICAL:
        return _LOGICAL[logical]
    if kind == "array":
        return pa.list_(_arrow_type(schema["items"], names))
    if kind == "map":
        return pa.map_(pa.string(), _arrow_type(schema["values"], names))
    if kind in ("record", "error"):
        found = pa.struct([(str(part["name"]), _arrow_type(part["type"], names)) for part in schema["fields"]])
    elif kind == "enum":
        found = pa.string()
    elif kind == "fixed":
        found = pa.binary(int(schema["size"]))
    else:
        return _arrow_type(kind, names)
    names[str(schema.get("name"))] = found
    return found
