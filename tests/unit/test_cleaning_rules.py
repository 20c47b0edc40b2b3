"""The rules: what a pipeline may say, and what a plan decides."""

from __future__ import annotations

import math
import pickle

import pytest

from datacheck.cleaning.plan import Action, parse_plan
from datacheck.cleaning.rules import path_matches
from datacheck.errors import PipelineError

MEAN = {"action": "impute", "strategy": "mean"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"action": "imput"}, "clean[1].action: unknown action 'imput'; did you mean 'impute'?"),
        ({"fields": "x"}, "clean[1].action: is required; choose from 'nan_to_num'"),
        ("impute", "clean[1]: expected a mapping, got 'impute'"),
        ({**MEAN, "valu": 1}, "clean[1].valu: unknown key of impute; did you mean 'value'?"),
        ({**MEAN, "strategy": "meen"}, "clean[1].strategy: must be 'constant', 'mean', 'median' or 'most_frequent'"),
        ({"action": "impute"}, "clean[1].strategy: is required"),
        ({**MEAN, "value": 1}, "clean[1].value: strategy 'mean' learns its value; remove this key"),
        ({"action": "impute", "strategy": "constant"}, "clean[1].value: is required by strategy 'constant'"),
        (
            {"action": "impute", "strategy": "constant", "value": math.nan},
            "clean[1].value: expected a finite number, got nan",
        ),
        (
            {"action": "impute", "strategy": "constant", "value": 1, "per_feature": True},
            "clean[1].per_feature: a const",
        ),
        ({**MEAN, "codes": "DC301"}, "clean[1].codes: DC301 does not identify single values"),
        ({**MEAN, "indicator": "gone"}, "clean[1].indicator: expected true or a name that contains {field}"),
        ({**MEAN, "indicator": "{0.x}"}, "clean[1].indicator: expected true or a name that contains {field}"),
        (
            {**MEAN, "codes": "DC1O1"},
            "clean[1].codes: 'DC1O1' is not a code or the start of one; did you mean 'DC101'?",
        ),
        ({**MEAN, "fields": []}, "clean[1].fields: is an empty list; remove it to match all"),
        ({"action": "nan_to_num"}, "clean[1].nan: give at least one of nan, posinf and neginf"),
        ({"action": "nan_to_num", "posinf": math.inf}, "clean[1].posinf: expected a finite number, got inf"),
        ({"action": "nan_to_num", "nan": True}, "clean[1].nan: expected a number, got True"),
        (
            {"action": "nan_to_num", "nan": 0, "codes": "DC102"},
            "clean[1].codes: matches no code that the rule has a value for",
        ),
        ({"action": "clip", "ge": "1"}, "clean[1].ge: expected a number, got '1'"),
        ({"action": "clip", "ge": 5, "le": 1}, "clean[1].ge: 5 is above le, 1"),
        ({"action": "clip", "ge": 5, "quantiles": [0, 1]}, "clean[1].bounds: give bounds in one way only"),
        (
            {"action": "clip", "quantiles": [0.9, 0.1]},
            "clean[1].quantiles: expected two increasing numbers between 0 and 1",
        ),
        ({"action": "clip", "le": 1, "codes": "DC201"}, "clean[1].codes: matches no code that the rule can clip"),
        ({"action": "clip", "codes": "DC101"}, "clean[1].codes: matches no code that the rule can clip"),
        ({"action": "clip", "ge": 0, "per_feature": True}, "clean[1].per_feature: applies only to quantiles"),
        ({"action": "drop_field"}, "clean[1].fields: is required"),
        (
            {"action": "drop_field", "fields": "x", "codes": "DC101"},
            "clean[1].codes: must be left out, got 'DC101'",
        ),
    ],
)
def test_a_rule_that_is_wrong_says_where_and_what_to_write(rule: object, message: str) -> None:
    with pytest.raises(PipelineError) as caught:
        parse_plan([{"action": "report"}, rule], file="p.yaml")
    assert str(caught.value).startswith(f"p.yaml: {message}")


def test_numbers_keep_their_type() -> None:
    plan = parse_plan([{"action": "impute", "strategy": "constant", "value": value} for value in (1, 1.0, True, "1")])
    assert [type(rule.value) for rule in plan.rules] == [int, float, bool, str]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "path", "speaks"),
    [
        ("emb", "emb", True),
        ("emb", "emb[]", True),
        ("emb", "emb[][]", True),
        ("emb[]", "emb", False),
        ("emb", "emb[].x", False),
        ("s", "s.x", False),
        ("s.*", "s.x", True),
        ("s.*", "s.x[]", True),
        ("temp*", "temperature", True),
        ("te?p", "temp", True),
        ("a.b", "axb", False),
        ("x[]", "x]", False),
        ("*", None, True),
        ("x", None, False),
        ("x", "x\n", False),
        ("*", "two\nlines", True),
    ],
)
def test_a_name_matches_a_field_and_the_values_of_a_list(name: str, path: str | None, speaks: bool) -> None:
    assert path_matches(name, path) is speaks


def test_the_first_rule_that_applies_decides() -> None:
    plan = parse_plan(
        [
            {"action": "drop_row", "fields": ["label"], "codes": "DC104"},
            {"action": "report", "fields": "notes"},
            {"action": "impute", "strategy": "mean", "codes": "DC101"},
            {"action": "clip", "fields": "dep", "ge": 0},
            {"action": "fail", "codes": "DC30"},
            {"action": "drop_field", "fields": "late"},
            {"action": "quarantine", "codes": ["DC2"]},
        ],
        otherwise="drop_row",
    )
    assert plan.decide("label", "DC104") is Action.DROP_ROW
    assert plan.decide("label", "DC101") is Action.REPAIR
    assert plan.decide("notes", "DC101") is Action.REPORT
    assert plan.decide("emb[]", "DC101") is Action.REPAIR
    assert plan.decide("dep", "DC203") is Action.REPAIR
    assert plan.decide("dep", "DC202") is Action.QUARANTINE
    assert plan.decide("dep", "DC103") is Action.DROP_ROW
    assert plan.decide("late", "DC207") is Action.REPAIR
    assert plan.decide("carrier, flight", "DC301") is Action.FAIL
    assert plan.decide(None, "DC901") is Action.DROP_ROW
    assert [plan.rank("label", "DC104"), plan.rank("dep", "DC202"), plan.rank("x", "DC104")] == [0, 6, 7]


@pytest.mark.parametrize(
    ("codes", "of_note", "of_error"),
    [
        ("DC1", False, True),
        (["DC1", "DC108"], True, True),
        ("DC108", True, False),
        ("DC10", False, True),
        (None, False, True),
    ],
)
def test_a_rule_takes_the_errors_of_a_prefix_and_the_notes_that_it_names(
    codes: object, of_note: bool, of_error: bool
) -> None:
    plan = parse_plan([{"action": "drop_row"} | ({} if codes is None else {"codes": codes})])
    (rule,) = plan.rules
    assert ["DC108" in rule.covered, "DC107" in rule.covered] == [of_note, of_error]


@pytest.mark.parametrize(
    ("rules", "requested"),
    [
        ([{"action": "drop_row", "codes": "DC104"}], {"DC104"}),
        ([{"action": "quarantine", "codes": "DC1"}], {"DC101", "DC102", "DC103", "DC104", "DC110"}),
        ([{"action": "fail", "fields": "x", "codes": ["DC101", "DC2"]}], {"DC101"}),
        ([{"action": "drop_row"}], set()),
        ([{"action": "report", "codes": "DC101"}], set()),
        ([{"action": "drop_row", "fields": "y", "codes": "DC101"}], set()),
        ([MEAN, {"action": "drop_row", "codes": ["DC101", "DC102"]}], {"DC101", "DC102", "DC104", "DC110"}),
        ([{"action": "report", "codes": "DC101"}, MEAN], {"DC104", "DC110"}),
    ],
)
def test_rules_request_the_codes_that_they_name_or_replace(rules: list[object], requested: set[str]) -> None:
    assert parse_plan(rules).requested_codes("x") == requested


def test_what_an_earlier_rule_reports_is_not_repaired() -> None:
    plan = parse_plan([{"action": "report", "fields": "x", "codes": "DC101"}, MEAN])
    assert [step.codes for step in plan.repairs_for("x")] == [{"DC104", "DC110"}]
    assert [step.codes for step in plan.repairs_for("y")] == [{"DC101", "DC104", "DC110"}]


def test_nothing_is_repaired_once_its_field_is_dropped() -> None:
    plan = parse_plan([MEAN, {"action": "drop_field", "fields": "x"}, {"action": "clip", "ge": 0}])
    assert [step.index for step in plan.repairs_for("x")] == [0]
    assert [step.index for step in plan.repairs_for("y")] == [0, 2]
    assert plan.drops("x")
    assert plan.drops_leaf("x[]")
    assert not plan.drops("y")


def test_learning_takes_a_pass_for_each_learned_rule_of_a_field() -> None:
    plan = parse_plan([{**MEAN, "fields": "x"}, {"action": "clip", "quantiles": [0, 0.9]}, {"action": "clip", "ge": 0}])
    assert plan.num_rounds(["x", "y"]) == 2
    assert plan.num_rounds(["y"]) == 1
    assert plan.num_rounds([]) == 0
    assert parse_plan([{"action": "clip", "ge": 0}]).num_rounds(["x"]) == 0


def test_a_plan_is_known_by_its_rules_and_travels() -> None:
    plan = parse_plan([MEAN])
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert plan.fingerprint == parse_plan([MEAN], otherwise="fail", file="other.yaml").fingerprint
    assert plan.fingerprint != parse_plan([{**MEAN, "codes": "DC101"}]).fingerprint


@pytest.mark.parametrize(
    ("template", "path", "name"),
    [(True, "x", "x_missing"), (True, "emb[]", "emb_missing"), ("no_{field}", "s.x[]", "no_s.x"), (False, "x", None)],
)
def test_an_indicator_is_named_after_its_field(template: bool | str, path: str, name: str | None) -> None:
    (rule,) = parse_plan([{**MEAN, "indicator": template}]).rules
    assert rule.indicator_name(path) == name  # type: ignore[union-attr]
