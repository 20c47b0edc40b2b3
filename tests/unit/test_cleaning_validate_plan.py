"""What a plan is told before any row is read."""

from __future__ import annotations

from typing import Any

import pytest

from datacheck.cleaning.plan import Action, parse_plan
from datacheck.cleaning.validate_plan import validate_plan
from datacheck.errors import CleaningError, PipelineError
from datacheck.schema.model import Field, Schema

FIELDS: dict[str | None, str] = {
    "x": "float32",
    "half": "float16",
    "n": "int64",
    "tiny": "uint8",
    "ok": "bool",
    "carrier": "string",
    "when": "timestamp[us]",
    "z": "complex64",
    "bits": "uint16",
    "emb": "list<float32>",
    "emb[]": "float32",
    "s": "struct",
    "s.age": "int8",
}
SCHEMA = Schema(
    fields={
        "x": Field(ge=0, le=100),
        "carrier": Field(isin=("AA", "UA")),
        "bits": Field(dtype="bfloat16"),
        "gone": Field(required=False),
        "half": Field(gt=0, lt=1),
    }
)


def impute(strategy: str, fields: Any = None, **more: Any) -> dict[str, Any]:
    return {"action": "impute", "strategy": strategy, **({} if fields is None else {"fields": fields}), **more}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [{"action": "drop_row", "fields": "crrier"}],
            "clean[0].fields: unknown field 'crrier'; did you mean 'carrier'?",
        ),
        (
            [{"action": "report", "fields": "q*"}],
            "clean[0].fields: 'q*' matches no field; choose from 'bits', 'carrier'",
        ),
        ([{"action": "drop_field", "fields": "s.age"}], "clean[0].fields: 's.age' is part of 's'"),
        (
            [{"action": "drop_field", "fields": "n"}, impute("median", "n")],
            "clean[1].fields: 'n' is already dropped by clean[0]",
        ),
        ([impute("constant", "x", value=-1)], "clean[0].value: -1 violates the schema of 'x' (DC201)"),
        (
            [impute("constant", "carrier", value="??")],
            "clean[0].value: '??' violates the schema of 'carrier' (DC205)",
        ),
        (
            [{"action": "nan_to_num", "fields": "x", "posinf": 1e6}],
            "clean[0].posinf: 1000000.0 violates the schema",
        ),
        (
            [{"action": "clip", "fields": "x", "le": 200}],
            "clean[0].le: 200 is outside the schema's bounds for 'x', from 0 to 100",
        ),
        ([{"action": "clip", "fields": "n"}], "clean[0].bounds: the schema has no bounds for 'n'; set ge or le"),
        (
            [impute("median", "n", indicator="x{field}"), impute("mean", "emb", indicator="xn")],
            "clean[1].indicator: expected true",
        ),
        ([impute("mean", ["x", "emb"], indicator="{field}")], "clean[0].indicator: field 'x' already exists"),
        (
            [impute("mean", "x", indicator=True), impute("mean", "x", codes="DC102", indicator=True)],
            "clean[1].indicator: 'x_missing' is also the indicator of clean[0]",
        ),
    ],
)
def test_a_rule_that_contradicts_the_fields_is_a_pipeline_error(rules: list[Any], message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        validate_plan(parse_plan(rules, file="p.yaml"), FIELDS, SCHEMA)
    assert str(caught.value).startswith(f"p.yaml: {message}")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (impute("mean", "n"), "'n' cannot be repaired: a mean would change its dtype, int64; use median"),
        (impute("mean", "s.age"), "'s.age' cannot be repaired: a mean would change its dtype, int8"),
        (
            impute("mean", "carrier"),
            "'carrier' cannot be repaired: string has no mean; use most_frequent or a constant",
        ),
        (impute("median", "ok"), "'ok' cannot be repaired: bool has no median; use most_frequent or a constant"),
        (impute("most_frequent", "when"), "'when' cannot be repaired: timestamp[us] has no most frequent"),
        (impute("constant", "when", value=0), "'when' cannot be repaired: timestamp[us] cannot be filled"),
        (impute("constant", "n", value=0.5), "'n' cannot be repaired: 0.5 would change its dtype, int64"),
        (impute("constant", "tiny", value=256), "'tiny' cannot be repaired: 256 would change its dtype, uint8"),
        (impute("constant", "n", value=True), "'n' cannot be repaired: True would change its dtype, int64"),
        (impute("constant", "x", value="0"), "'x' cannot be repaired: '0' would change its dtype, float32"),
        (impute("constant", "emb", value="0"), "'emb[]' cannot be repaired: '0' would change its dtype, float32"),
        (impute("constant", "ok", value=1), "'ok' cannot be repaired: 1 would change its dtype, bool"),
        ({"action": "nan_to_num", "fields": "n", "nan": 0}, "'n' cannot be repaired: int64 cannot hold NaN"),
        ({"action": "clip", "fields": "z", "ge": 0}, "'z' cannot be repaired: complex64 values cannot be clipped"),
        (
            {"action": "nan_to_num", "fields": "emb", "posinf": 1e39},
            "posinf for 'emb[]' is 1e+39, which is beyond the largest float32",
        ),
        (impute("constant", "emb", value=1e-60), "value for 'emb[]' is 1e-60, which float32 rounds to zero"),
        (
            {"action": "nan_to_num", "fields": "bits", "nan": 1e39},
            "nan for 'bits' is 1e+39, which is beyond the largest bfloat16",
        ),
    ],
)
def test_a_repair_that_a_named_field_cannot_take_is_an_error(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(CleaningError) as caught:
        validate_plan(parse_plan([rule]), FIELDS, SCHEMA)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"clean[0] ({rule['action']}): ")


@pytest.mark.parametrize(
    "rule",
    [
        impute("mean"),
        impute("median", "*"),
        impute("median", ["n", "x", "s.age"]),
        impute("most_frequent", ["ok", "carrier", "n"], indicator=True),
        impute("constant", "n", value=3.0),
        impute("constant", "z", value=0),
        impute("mean", "bits"),
        impute("constant", "gone", value=1),
        {"action": "clip"},
        {"action": "clip", "fields": ["x", "half"]},
        {"action": "clip", "fields": "tiny", "ge": -5, "le": 300},
        {"action": "nan_to_num", "nan": 0.5},
        {"action": "drop_field", "fields": ["x", "emb", "s"]},
        {"action": "drop_row", "fields": "emb[]"},
    ],
)
def test_rules_that_fit_are_accepted(rule: dict[str, Any]) -> None:
    validate_plan(parse_plan([rule]), FIELDS, SCHEMA)


def test_rules_may_name_parts_of_a_field_of_unknown_structure() -> None:
    validate_plan(
        parse_plan([impute("mean", ["s.x", "emb[]"])]), {"s": "struct<x: float>", "emb": "list<item: float>"}, Schema()
    )


def test_a_bound_plan_leaves_null_lists_to_the_rules_about_rows() -> None:
    plan = parse_plan([impute("constant", value=0.5), {"action": "drop_row"}])
    assert plan.decide("emb", "DC104") is Action.REPAIR
    bound = validate_plan(plan, FIELDS, SCHEMA)
    assert bound.decide("emb", "DC104") is Action.DROP_ROW
    assert bound.decide("emb[]", "DC104") is Action.REPAIR
    assert bound.decide("s", "DC104") is Action.DROP_ROW


def test_what_lies_inside_a_dropped_field_needs_no_repair() -> None:
    plan = validate_plan(parse_plan([{"action": "drop_field", "fields": ["s", "emb"]}]), FIELDS, SCHEMA)
    assert plan.decide("s.age", "DC201") is Action.REPAIR
    assert plan.decide("emb[]", "DC101") is Action.REPAIR
    assert plan.drops_leaf("s.age")
    assert plan.decide("s2.age", "DC201") is Action.QUARANTINE


def test_an_unnamed_array_has_the_name_from_the_schema() -> None:
    schema = Schema(fields={"windows": Field(ge=0)})
    plan = validate_plan(parse_plan([impute("mean", "windows")]), {None: "float32"}, schema)
    assert plan.decide(None, "DC101") is Action.REPAIR
    assert plan.num_rounds([None]) == 1
    with pytest.raises(PipelineError, match="it has no room for an indicator"):
        validate_plan(parse_plan([impute("mean", indicator=True)]), {None: "float32"}, schema)
    with pytest.raises(PipelineError, match="the array has no name; remove 'fields'"):
        validate_plan(parse_plan([impute("mean", "windows")]), {None: "float32"}, Schema())
    with pytest.raises(PipelineError, match="would leave nothing"):
        validate_plan(parse_plan([{"action": "drop_field", "fields": "windows"}]), {None: "float32"}, schema)
