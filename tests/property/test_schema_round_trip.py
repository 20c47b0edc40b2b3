"""Every schema survives a round trip through YAML and through pandera."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datacheck.errors import SchemaError
from datacheck.schema import Field, Schema, parse_schema
from datacheck.schema.dtypes import known_dtypes
from datacheck.schema.pandera_reading import from_pandera
from datacheck.schema.yaml_file import parse_yaml

TEXT = st.text(max_size=12)
NUMBER = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))
SCALAR = st.one_of(st.booleans(), NUMBER, TEXT)
PLAIN = st.recursive(
    st.none() | SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
WORDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*known_dtypes(), "timestamp[us, tz=UTC]", "decimal128(10, 2)"]),
        "shape": st.lists(st.none() | st.integers(0, 2**40), max_size=4),
        **{word: st.booleans() for word in ("nullable", "allow_nan", "allow_inf", "required", "unique", "coerce")},
        **{word: NUMBER | TEXT | st.sampled_from(["2024-01-31", "12:30:00.5"]) for word in ("ge", "le", "gt", "lt")},
        "isin": st.one_of(st.lists(NUMBER, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3)),
        "str_matches": st.sampled_from(["^a", "[0-9]+$", "(?i)x"]),
        "checks": st.dictionaries(st.sampled_from(["notin", "ne", "str_contains"]), st.just("x"), max_size=2),
        "missing": st.lists(SCALAR, max_size=3),
        **{word: st.booleans() for word in ("not_blank", "stripped", "printable", "no_variants")},
        **{word: st.integers(0, 9) for word in ("min_length", "max_length")},
        "vocab_size": st.integers(1, 10**6),
        "ignore_index": st.integers(-100, 0),
        "format": st.sampled_from(["xyxy", "xywh", "cxcywh", "chat"]),
        "within": st.tuples(st.integers(1, 99), st.floats(0.5, 9)),
        "title": TEXT,
        "description": TEXT,
        "metadata": st.dictionaries(TEXT, PLAIN, max_size=2),
    },
)


@st.composite
def fields(draw: st.DrawFn) -> Field:
    """A field that does not contradict itself: words that do are left out, one after the other."""
    words: dict[str, Any] = {}
    for word, value in draw(WORDS).items():
        with contextlib.suppress(SchemaError):
            Field(**{**words, word: value})
            words[word] = value
    return Field(**words)


#: A name with a ``*`` is a pattern, and cannot be a key.
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: "[]" not in name and not set(".`*") & set(name))


@st.composite
def schemas(draw: st.DrawFn, names: st.SearchStrategy[Any]) -> Schema:
    chosen = draw(st.dictionaries(names, fields(), max_size=3))
    known = [name for name in chosen if name]
    keys = draw(st.lists(st.lists(st.sampled_from(known), min_size=1, unique=True), max_size=2)) if known else []
    return Schema(
        name=draw(st.none() | TEXT),
        description=draw(st.none() | TEXT),
        strict=draw(st.booleans()),
        coerce=draw(st.booleans()),
        fields=chosen,
        unique=keys,
        checks=[{"expr": f"`{known[0]}` > 1", "name": draw(st.text(min_size=1, max_size=5))}] if known else [],
        metadata=draw(st.dictionaries(TEXT, PLAIN, max_size=2)),
    )


@given(schemas(st.none() | NAMES))
def test_a_saved_schema_loads_as_an_equal_one(schema: Schema) -> None:
    assert parse_schema(parse_yaml(schema.to_yaml(), "again"), "again") == schema


@given(schemas(NAMES))
def test_a_schema_survives_conversion_to_pandera_and_back(schema: Schema) -> None:
    assert from_pandera(schema.to_pandera()) == schema


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_mapping_or_a_schema_error(content: bytes) -> None:
    with contextlib.suppress(SchemaError):
        assert isinstance(parse_yaml(content, "s.yaml"), dict)


@given(st.dictionaries(st.sampled_from(["fields", "checks", "unique", "version", "x"]), PLAIN, max_size=3))
def test_any_mapping_is_a_schema_or_a_schema_error(mapping: dict[str, Any]) -> None:
    with contextlib.suppress(SchemaError):
        parse_schema(mapping, "s.yaml")
