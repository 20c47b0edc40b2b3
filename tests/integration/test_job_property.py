"""``run`` with any rules over any data: every row in one place, decided by the first rule, and nothing bad in the output."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, given, reject, settings
from hypothesis import strategies as st
from job_files import contents, kept_table, ledger_of, quarantine_of, write_pipeline

import datacheck
from datacheck.errors import CleaningError

FIELDS: dict[str, dict[str, Any]] = {
    "x": {"dtype": "float64", "ge": -10, "le": 10},
    "y": {"dtype": "float32", "nullable": True, "gt": -5},
    "n": {"dtype": "int32", "isin": [0, 1, 2]},
}
SCHEMA = {"fields": FIELDS}
ROW_ACTIONS = ("drop_row", "quarantine")

floats = st.one_of(st.none(), st.sampled_from([0.0, 1.0, -5.0, 10.0, -10.5, 99.0, np.nan, np.inf, -np.inf]))
code_lists = st.one_of(
    st.none(),
    st.lists(st.sampled_from(["DC101", "DC102", "DC103", "DC104", "DC2", "DC201", "DC202"]), min_size=1, max_size=3),
)
field_lists = st.one_of(st.none(), st.lists(st.sampled_from(["x", "y", "n"]), min_size=1, max_size=2, unique=True))
float_fields = st.one_of(st.none(), st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2, unique=True))


def rule(action: st.SearchStrategy[str], fields: Any, **others: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    drawn = st.fixed_dictionaries({"action": action, "fields": fields, **others})
    return drawn.map(lambda record: {key: value for key, value in record.items() if value is not None})


rules = st.lists(
    st.one_of(
        rule(st.sampled_from(ROW_ACTIONS), field_lists, codes=code_lists),
        rule(
            st.just("impute"),
            st.sampled_from([["x"], ["y"], ["x", "y"]]),
            strategy=st.sampled_from(["mean", "median", "most_frequent"]),
            codes=st.sampled_from([None, "DC101", "DC104", ["DC1", "DC2"]]),
        ),
        rule(st.just("impute"), st.just(["n"]), strategy=st.just("constant"), value=st.just(1), codes=st.just("DC2")),
        rule(st.just("nan_to_num"), float_fields, nan=st.just(0.5), posinf=st.sampled_from([None, 2.5])),
        rule(st.just("clip"), st.just(["x"]), codes=st.sampled_from([None, ["DC102", "DC202"], "DC201"])),
    ),
    max_size=4,
)


@st.composite
def files(draw: st.DrawFn) -> list[tuple[pa.Table, int]]:
    drawn = []
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(0, 12))
        columns = {
            "x": pa.array(draw(st.lists(floats, min_size=size, max_size=size)), pa.float64(), from_pandas=False),
            "y": pa.array(draw(st.lists(floats, min_size=size, max_size=size)), pa.float32(), from_pandas=False),
            "n": pa.array(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)), pa.int32()),
        }
        drawn.append((pa.table(columns), draw(st.integers(1, 6))))
    return drawn


def violations(row: dict[str, Any]) -> set[tuple[str, str]]:
    """What the schema says of a row, in the words of the issue: NaN, infinities, null and bounds are four things."""
    broken = set()
    for name, field in FIELDS.items():
        value = row[name]
        if value is None:
            broken |= set() if field.get("nullable") else {(name, "DC104")}
            continue
        broken |= {(name, "DC101")} if np.isnan(value) else set()
        broken |= {(name, "DC102" if value > 0 else "DC103")} if np.isinf(value) else set()
        broken |= {(name, "DC201")} if value < field.get("ge", -np.inf) else set()
        broken |= {(name, "DC202")} if value > field.get("le", np.inf) else set()
        broken |= {(name, "DC203")} if value <= field.get("gt", -np.inf) and "gt" in field else set()
        broken |= {(name, "DC205")} if "isin" in field and value not in field["isin"] else set()
    return broken


def covers(rule_: dict[str, Any], name: str, code: str) -> bool:
    """Whether a rule speaks of a violation, by what the documentation says of each action."""
    if name not in rule_.get("fields", [name]):
        return False
    codes = rule_.get("codes")
    named = codes is None or code.startswith(tuple([codes] if isinstance(codes, str) else codes))
    if rule_["action"] == "nan_to_num":
        return named and (code == "DC101" or (code == "DC102" and "posinf" in rule_))
    if rule_["action"] == "impute":
        default = code in ("DC101", "DC104")
        return default if codes is None else named and code not in ("DC302",)
    if rule_["action"] == "clip":
        return code in ("DC201", "DC202", "DC203", "DC204") if codes is None else named
    return named


def first_rule(plan: list[dict[str, Any]], name: str, code: str) -> int:
    return next((place for place, rule_ in enumerate(plan) if covers(rule_, name, code)), len(plan))


BEYOND = {"DC201": "DC103", "DC203": "DC103", "DC202": "DC102", "DC204": "DC102"}


def verdict(plan: list[dict[str, Any]], otherwise: str, row: dict[str, Any]) -> str:
    """``kept``, ``dropped``, ``quarantined``, or ``open`` where it hangs on what a repair makes of it."""
    broken = violations(row)
    # A rule about rows that names a code asks for such values even where the schema allows them.
    asked = {
        (name, "DC104")
        for name in FIELDS
        if row[name] is None
        and (place := first_rule(plan, name, "DC104")) < len(plan)
        and plan[place]["action"] in ROW_ACTIONS
        and "codes" in plan[place]
    }
    deciding = []
    is_open = False
    for name, code in broken | asked:
        place = first_rule(plan, name, code)
        action = plan[place]["action"] if place < len(plan) else otherwise
        if action not in ROW_ACTIONS:
            is_open = True
            continue
        infinity = (name, BEYOND.get(code, ""))
        if infinity in broken:
            repair = first_rule(plan, *infinity)
            if repair < place and plan[repair]["action"] not in ROW_ACTIONS:
                is_open = True
                continue
        deciding.append((place, action))
    if deciding:
        return "dropped" if min(deciding)[1] == "drop_row" else "quarantined"
    return "open" if is_open else "kept"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.mktemp("any")
    return (base / f"{number:04}" for number in itertools.count())


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(train=files(), val=files(), plan=rules, otherwise=st.sampled_from(ROW_ACTIONS))
def test_any_rules_over_any_data(
    train: list[tuple[pa.Table, int]],
    val: list[tuple[pa.Table, int]],
    plan: list[dict[str, Any]],
    otherwise: str,
    folders: Any,
) -> None:
    folder = next(folders)
    start = 0
    rows: dict[int, dict[str, Any]] = {}
    origin: dict[int, tuple[str, int, int]] = {}
    for split, written in (("train", train), ("val", val)):
        for number, (table, group) in enumerate(written):
            path = folder / split / f"{number}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            ids = np.arange(start, start + len(table))
            pq.write_table(table.append_column("id", pa.array(ids)), path, row_group_size=group)
            for row, record in enumerate(table.to_pylist()):
                rows[start + row] = record
                origin[start + row] = (path.name, row // group, row)
            start += len(table)
    pipeline = write_pipeline(folder, {"train": "train", "val": "val"}, plan, schema=SCHEMA, otherwise=otherwise)
    try:
        report = datacheck.run(pipeline, workers=1)
    except CleaningError as error:
        event(f"refused: {str(error).partition(': ')[2][:30]}")
        assert not (folder / "out").exists() or not list((folder / "out").glob("[!.]*"))
        reject()
    output = folder / "out"
    kept = {record["id"]: record for record in kept_table(output).to_pylist()}
    aside_table = quarantine_of(output)
    aside = {} if aside_table is None else {record["id"]: record for record in aside_table.to_pylist()}
    ledger = ledger_of(output)
    num_dropped = sum(entry["verdict"] == "dropped" for entry in ledger)

    # Every row is in one place, and the accounts say so.
    assert kept.keys().isdisjoint(aside)
    assert len(kept) + len(aside) + num_dropped == len(rows)
    assert list(report.totals().values()) == [len(rows), len(kept), num_dropped, len(aside)]
    for account in report.accounts:
        assert account.num_read == account.num_kept + account.num_dropped + account.num_quarantined

    # The first rule that speaks of it decides.
    for id_, row in rows.items():
        wanted = verdict(plan, otherwise, row)
        if wanted == "open":
            assert id_ in kept or "after repair" in aside[id_]["reason"] or otherwise == "drop_row"
            continue
        got = "kept" if id_ in kept else "quarantined" if id_ in aside else "dropped"
        assert got == wanted, (row, plan)

    # Values that broke no rule are what they were; those set aside are the originals.
    for id_, record in kept.items():
        broken = {name for name, _ in violations(rows[id_])}
        for name in FIELDS:
            if name not in broken and rows[id_][name] is not None:
                assert same(record[name], rows[id_][name]), (name, rows[id_], plan)
    for id_, record in aside.items():
        assert all(same(record[name], rows[id_][name]) for name in FIELDS)
        assert (Path(record["file"]).name, record["row_group"], record["row"]) == origin[id_]
        assert record["codes"]

    # Nothing bad is left.
    assert report.ok
    for split in ("train", "val"):
        if (output / split).exists():
            assert datacheck.scan(output / split, datacheck.load_schema(SCHEMA)).ok

    # And it is the same however many work on it.
    whole = contents(output)
    datacheck.run(pipeline, workers=3, overwrite=True)
    assert contents(output) == whole


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values have the same bits, NaN among them, or are both null."""
    return (
        ours is theirs if ours is None or theirs is None else np.float64(ours).tobytes() == np.float64(theirs).tobytes()
    )
