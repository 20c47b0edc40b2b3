"""What the rest of datacheck asks of a code, over the whole table, and how users select codes."""

from __future__ import annotations

import dataclasses

import pytest

from datacheck.codes import CODES, Code, Family, codes_with_prefix, longest_prefix

every_code = pytest.mark.parametrize("code", CODES.values(), ids=list(CODES))


@every_code
def test_the_level_of_a_code_follows_its_number(code: Code) -> None:
    levels = {
        "value": (
            "DC1",
            "DC20",
            "DC211",
            "DC212",
            "DC213",
            "DC214",
            "DC215",
            *(f"DC60{digit}" for digit in range(1, 7)),
        ),
        "row": ("DC216", "DC217", "DC302", "DC303", "DC305", "DC307"),
        "file": ("DC0", "DC304", "DC306", "DC607", "DC9"),
        "dataset": ("DC301", "DC308", "DC31", "DC32", "DC330", "DC331", "DC5"),
        "training": ("DC4",),
    }
    assert [level for level, prefixes in levels.items() if code.code.startswith(prefixes)] == [code.level]


@every_code
def test_the_attributes_of_a_code_follow_its_number(code: Code) -> None:
    number = code.code
    of_vectors = ("DC216", "DC217", "DC607")
    of_values = ("DC003", "DC004", "DC012", "DC1", "DC2", "DC6")
    assert code.counts_values == (number.startswith(of_values) and number not in of_vectors)
    assert code.counts_nulls == (number in ("DC104", "DC105", "DC107", "DC108"))
    assert code.becomes_null == (number in ("DC003", "DC007", "DC012"))
    assert code.cacheable == (not number.startswith(("DC005", "DC326", "DC328", "DC9")))
    of_rows = [
        "DC301",
        "DC302",
        "DC303",
        "DC305",
        "DC307",
        "DC310",
        "DC319",
        "DC320",
        "DC321",
        "DC327",
        "DC328",
        "DC329",
    ]
    assert code.tolerable == number.startswith(("DC1", "DC2", "DC6", *of_rows))
    assert code.allowable == (number in ("DC101", "DC102", "DC103", "DC104", "DC110"))
    repairable = ("DC101", "DC102", "DC103", "DC104", "DC110", *(f"DC20{digit}" for digit in range(1, 7)))
    assert code.repairable == number.startswith((*repairable, *(f"DC21{digit}" for digit in range(1, 6))))
    assert (code.side == "lower") == (number in ("DC103", "DC201", "DC203"))
    assert (code.side == "upper") == (number in ("DC102", "DC202", "DC204"))
    of_datasets = (
        "DC308",
        "DC316",
        "DC317",
        "DC318",
        "DC322",
        "DC323",
        "DC324",
        "DC325",
        "DC326",
        "DC330",
        "DC331",
        "DC5",
    )
    assert code.about_inputs == number.startswith(
        (*of_datasets, "DC911", "DC912", "DC913", "DC914", "DC916", "DC917", "DC607")
    )
    assert code.nameless_field == {"DC303": "the data frame", "DC005": "the data"}.get(number, "the array")


@every_code
def test_a_family_shares_its_first_digit(code: Code) -> None:
    digits = {
        "0": "STRUCTURE",
        "1": "MISSING",
        "2": "BOUNDS",
        "3": "ROWS",
        "4": "TRAINING",
        "5": "NOTES",
        "6": "MEDIA",
        "9": "UNREADABLE",
    }
    assert code.family is Family[digits[code.code[2]]]


def test_prefixes_select_codes() -> None:
    assert codes_with_prefix("DC101") == {"DC101"}
    assert codes_with_prefix("DC10", "DC201") == {*(f"DC10{digit}" for digit in range(1, 9)), "DC201"}
    assert codes_with_prefix("DC") == {code for code in CODES if code.startswith("DC")}
    assert not codes_with_prefix("DC8")
    assert not codes_with_prefix()


def test_the_longest_prefix_is_the_most_specific() -> None:
    assert longest_prefix("DC101", ("DC1", "DC101", "DC")) == "DC101"
    assert longest_prefix("DC101", ("DC2",)) is None


def test_a_whole_code_selects_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for own in ("X10", "X101"):
        monkeypatch.setitem(CODES, own, dataclasses.replace(CODES["DC101"], code=own))
    codes_with_prefix.cache_clear()
    assert [codes_with_prefix(one) & {"X10", "X101"} for one in ("X1", "X10", "X101")] == [
        {"X10", "X101"},
        {"X10"},
        {"X101"},
    ]
    assert longest_prefix("X101", ("X10", "X1")) == "X1"
    codes_with_prefix.cache_clear()
