"""Schemas load from files, modules and objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datacheck.errors import OutputError, SchemaError, UsageError
from datacheck.schema import Field, Schema, parse_schema
from datacheck.schema.yaml_file import parse_yaml
from datacheck.storage.documents import load_schema

SCHEMAS = Path(__file__).parent.parent.parent / "schemas"


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder that is not on the path of imports."""
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def test_no_schema_is_the_default_schema() -> None:
    assert load_schema() == load_schema(None) == Schema()


def test_a_schema_and_a_mapping_are_accepted() -> None:
    schema = Schema(fields={"a": Field(ge=1)})
    assert load_schema(schema) == schema
    assert load_schema({"fields": {"a": {"ge": 1}}}) == schema


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_schemas_of_the_examples_load_and_survive_a_round_trip(path: Path) -> None:
    schema = load_schema(path)
    assert schema.fields
    assert parse_schema(parse_yaml(schema.to_yaml(), "again"), "again") == schema


def test_a_saved_schema_loads(tmp_path: Path) -> None:
    schema = Schema(name="é", fields={"on": Field(dtype="int8"), None: Field(shape=(None, 2))}, unique=["on"])
    schema.save(tmp_path / "s.yaml")
    assert load_schema(str(tmp_path / "s.yaml")) == schema


def test_a_reference_is_imported_from_the_current_folder(module_folder: Path) -> None:
    (module_folder / "my_schemas.py").write_text(
        "from datacheck.schema import Schema\nclass Box:\n    inner = Schema(name='found')\n"
    )
    assert load_schema("my_schemas:Box.inner").name == "found"


def test_an_existing_file_named_like_a_reference_is_read_and_nothing_is_imported(module_folder: Path) -> None:
    (module_folder / "bomb.py").write_text("raise SystemExit('imported')")
    (module_folder / "bomb:Model").write_text("name: a file")
    assert load_schema("bomb:Model").name == "a file"


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("no_such_module:Model", "no such file, and no module named 'no_such_module'"),
        ("my_schemas.inner:Model", "no module named 'my_schemas.inner'"),
        ("my_schemas:Modle", "'my_schemas' has no attribute 'Modle'; did you mean 'Model'?"),
        ("needs:Model", "needs 'no_such_thing', which is not installed"),
        ("broken:Model", "importing 'broken' failed: ZeroDivisionError: division by zero"),
        ("syntax:Model", "importing 'syntax' failed: SyntaxError"),
    ],
)
def test_a_reference_that_cannot_be_imported_says_why(module_folder: Path, reference: str, problem: str) -> None:
    (module_folder / "my_schemas.py").write_text("Model = None")
    (module_folder / "needs.py").write_text("import no_such_thing")
    (module_folder / "broken.py").write_text("1 / 0")
    (module_folder / "syntax.py").write_text("def")
    with pytest.raises(SchemaError) as error:
        load_schema(reference)
    assert str(error.value).startswith(f"{reference}: ")
    assert problem in str(error.value)


@pytest.mark.parametrize("reference", ["my_schemas.py:Model", "my/schemas.py:Box.Model"])
def test_a_python_file_must_be_given_as_a_module(module_folder: Path, reference: str) -> None:
    expected = reference.replace(".py", "").replace("/", ".")
    with pytest.raises(SchemaError, match=f"give the module instead, as in '{expected}'"):
        load_schema(reference)


@pytest.mark.parametrize("thing", [3, object(), int])
def test_an_object_that_is_not_a_schema_is_a_usage_error(thing: object) -> None:
    with pytest.raises(UsageError, match="expected a YAML file"):
        load_schema(thing)  # type: ignore[arg-type]


def test_a_schema_file_with_a_pandera_reference_is_filled_in_from_it(module_folder: Path) -> None:
    (module_folder / "models.py").write_text(
        "import pandera.pandas as pa\n"
        "class Flights(pa.DataFrameModel):\n"
        "    a: pa.Float32 = pa.Field(ge=0, le=10, nullable=True)\n"
        "    b: int = pa.Field(unique=True)\n"
        "    class Config:\n        strict = True\n        unique = ['a', 'b']\n"
    )
    (module_folder / "s.yaml").write_text(
        "pandera: models:Flights\nfields: {a: {le: 5, allow_nan: true, nullable: false}, c: {}}"
    )
    schema = load_schema("s.yaml")
    assert schema.strict
    assert schema.unique == (("a", "b"),)
    assert schema.fields["a"] == Field(dtype="float32", ge=0, le=5, nullable=False, allow_nan=True)
    assert schema.fields["b"] == Field(dtype="int64", unique=True)
    assert parse_schema(parse_yaml(schema.to_yaml(), "again"), "again") == schema == load_schema(schema)


def test_a_schema_file_and_its_pandera_model_must_agree_on_dtypes(module_folder: Path) -> None:
    (module_folder / "models.py").write_text(
        "import pandera.pandas as pa\nM = pa.DataFrameSchema({'a': pa.Column('float32')})\n"
    )
    (module_folder / "s.yaml").write_text("pandera: models:M\nfields: {a: {dtype: float64}}")
    with pytest.raises(
        SchemaError, match=r"s\.yaml: fields\.a\.dtype: the schema says float64, but models:M says float32"
    ):
        load_schema("s.yaml")


def test_a_schema_says_in_a_line_what_it_has_and_shows_itself_in_a_notebook() -> None:
    assert Schema().summary() == "0 fields, 0 checks"
    assert parse_schema({"sequence": [{"on": "t"}]}, "s").summary() == "1 sequence rule"
    assert parse_schema({"num_rows": {"ge": 1}, "unique": ["a"]}, "s").summary() == "1 unique key, 1 size"
    full = {"name": "<b>x", "fields": {"a": {}}, "checks": ["a > 0"], "determines": [{"fields": "a", "determine": "b"}]}
    schema = parse_schema(full, "s")
    assert schema.summary() == "1 field, 1 check, 1 rule about keys"
    assert str(schema) == schema.to_yaml().rstrip()
    shown = schema._repr_html_()
    assert "&lt;b&gt;x: 1 field, 1 check" in shown
    assert "<b>x" not in shown


def test_a_schema_that_cannot_be_written_is_an_error_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere.s\.yaml: cannot be written: No such file"):
        Schema().save(tmp_path / "nowhere" / "s.yaml")
