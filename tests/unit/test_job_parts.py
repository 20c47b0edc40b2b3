"""The small parts of the job: names, records, manifests, and the labels of rows."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datacheck.checks.base import Outcome
from datacheck.checks.structure import FieldFacts
from datacheck.cleaning.plan import Action, CleaningPlan, parse_plan
from datacheck.errors import OutputError
from datacheck.findings import Example, Finding
from datacheck.jobs.merge import sum_counts
from datacheck.jobs.units import result
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.result import UnitResult
from datacheck.jobs.units.row_labels import RowLabel, RowLabels, label_rows
from datacheck.jobs.units.scan import UnitScan
from datacheck.publishing.manifest import damage_of, files_of, read_manifest
from datacheck.publishing.output_names import OutputNames, kind_of
from datacheck.reports.accounts import RepairTotal
from datacheck.schema.model import Schema


def test_parts_of_rows_go_to_their_split_and_the_rest_to_folders_of_their_own() -> None:
    names = OutputNames()
    found = {
        kind_of(part): names.of_part("train", part)
        for part in (
            "train.t-0123-00000.parquet",
            "train.t-0123-00000.quarantine.parquet",
            "train.t-0123-00000.ledger.parquet",
        )
    }
    assert found == {
        "rows": "train/t-0123-00000.parquet",
        "quarantine": "quarantine/train/t-0123-00000.parquet",
        "ledger": "ledger/train/t-0123-00000.parquet",
    }


def test_no_two_inputs_get_one_name_even_where_one_is_called_as_another_would_be() -> None:
    names = OutputNames()
    uris = ["a/x.npy", "b/x.npy", "b/x-2.npy", "c/x-3.npy", "c/x.npy", "d/x-2.npy"]
    given = [names.of_array("train", uri, None, ".npy", is_aligned=False) for uri in uris]
    assert len(set(given)) == len(uris)
    assert given[:2] == ["train/x.npy", "train/x-2.npy"]
    again = OutputNames()
    assert [again.of_array("train", uri, None, ".npy", is_aligned=False) for uri in uris] == given


@pytest.mark.parametrize("field", ["../../etc/x", "/abs", "a\\b", "..", ".", "\x00", "a\nb", "x" * 500, ""])
def test_a_field_s_name_is_made_the_name_of_one_file(field: str) -> None:
    for uri, is_aligned in (("w.npy", True), ("t.parquet", False)):
        path = Path(OutputNames().of_array("train", uri, field, ".npy", is_aligned=is_aligned))
        assert path.parent == Path("train")
        assert path.suffix == ".npy"
        assert not path.name.startswith(".")
        assert len(path.name) < 200


def make_record() -> UnitResult:
    finding = Finding("DC101", "t.parquet", "x", 2, 9, (Example(3, 0, (1,), "nan"),), detail="d")
    fields = {
        None: FieldFacts("float32", (4, 2), is_array=True),
        "s.a": FieldFacts("float64", (), top_level=False),
        "l": FieldFacts("list<float64>", (None,), problem="p"),
    }
    scan = UnitScan(5, (finding,), fields, (None, "x", "x"), {None: (8, 7), "x": (9, 9)})
    return UnitResult(
        "train.t-0",
        "t.parquet",
        5,
        2,
        1,
        2,
        {"DC101": 2, "DC104": 1},
        [RepairTotal("impute", None, 3), RepairTotal("clip", "x", 1)],
        {"z.parquet": 10, "a.quarantine.parquet": 20, "m.ledger.parquet": 30},
        ["z", None],
        scan,
        {},
        {"DC202": 4},
    )


def read_again(record: Any, uri: str) -> dict[str, result.UnitResult]:
    """What a restarted run reads of a record, in which all parts of the unit ``uri`` are still there."""
    task: Any = SimpleNamespace(name=make_record().name, unit=SimpleNamespace(uri=uri))
    return result.read_finished({"0-0": record}, [task], lambda *_: True)


def test_a_record_reads_back_as_it_was_with_its_parts_in_order() -> None:
    record = make_record()
    # As the staging area writes it: keys sorted.
    saved = json.loads(json.dumps({"units": [result.to_json(record)]}, sort_keys=True))
    read = read_again(saved, record.uri)[record.name]
    assert read == record
    assert list(read.parts) == list(record.parts)
    assert read_again(saved, "elsewhere.npy") == {}


@pytest.mark.parametrize("broken", [{}, {"name": "x"}, {"result": 3}, {"result": "%"}, {"result": "aaaa"}])
def test_a_record_that_is_not_whole_is_left_out(broken: dict[str, Any]) -> None:
    record = {**result.to_json(make_record()), **broken} if broken else {}
    assert read_again({"units": [record]}, make_record().uri) == {}
    assert read_again(record, make_record().uri) == {}


def make_manifest(folder: Path) -> dict[str, Any]:
    (folder / "train").mkdir()
    (folder / "train" / "x.npy").write_bytes(b"12345")
    part = {"path": "train/x.npy", "num_bytes": 5}
    return {"version": 1, "fingerprint": "sha256:0", "statistics": "statistics.json", "inputs": [{"outputs": [part]}]}


def test_a_manifest_names_its_files_and_tells_when_they_are_not_whole(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path)
    assert read_manifest(str(tmp_path)) is None
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert read_manifest(str(tmp_path)) == manifest
    assert files_of(manifest) == ["train/x.npy", "statistics.json"]
    assert damage_of(str(tmp_path), manifest) == ""
    (tmp_path / "train" / "x.npy").write_bytes(b"1234")
    assert "expected 5 bytes, got 4" in damage_of(str(tmp_path), manifest)
    (tmp_path / "train" / "x.npy").unlink()
    assert "No such file" in damage_of(str(tmp_path), manifest)
    assert files_of({**manifest, "statistics": None}) == ["train/x.npy"]


@pytest.mark.parametrize("change", [{"fingerprint": None}, {"inputs": 3}, {"inputs": [{"outputs": [{"path": 3}]}]}])
def test_an_invalid_manifest_is_rejected(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({**make_manifest(tmp_path), **change}))
    with pytest.raises(OutputError, match="not a datacheck manifest"):
        read_manifest(str(tmp_path))


def test_counts_are_added_by_name() -> None:
    assert sum_counts([{"b": 1, "a": 2}, {}, {"b": 3}]) == {"a": 2, "b": 4}


def outcome(code: str, field: str, rows: list[int], detail: str = "") -> Outcome:
    return Outcome(code, field, 10, len(rows), np.array(rows, np.int64), detail=detail)


def test_the_first_rule_that_applies_decides_about_a_row_and_all_reasons_are_kept() -> None:
    plan = parse_plan([{"action": "quarantine", "codes": "DC2"}, {"action": "drop_row", "codes": "DC101"}])
    labels = RowLabels(4)
    outcomes = [outcome("DC101", "x", [0, 1, 2]), outcome("DC202", "y", [1, 3], "<= 3"), outcome("DC104", "z", [2])]
    assert not label_rows(labels, outcomes, plan)
    removed = labels.removed()
    assert removed.rows.tolist() == [0, 1, 2, 3]
    assert list(removed.actions) == [Action.DROP_ROW, Action.QUARANTINE, Action.DROP_ROW, Action.QUARANTINE]
    assert list(removed.codes) == [("DC101",), ("DC101", "DC202"), ("DC101", "DC104"), ("DC202",)]
    assert removed.reasons[1] == "DC101 in 'x'; DC202 in 'y': <= 3"
    assert not labels.kept.any()


def test_what_a_repair_leaves_is_quarantined_and_says_so() -> None:
    plan = parse_plan([{"action": "clip"}])
    labels = RowLabels(2)
    label_rows(labels, [outcome("DC202", "x", [0], "<= 3")], plan)
    assert labels.kept.all()
    label_rows(labels, [outcome("DC202", "x", [0], "<= 3"), outcome("DC104", "y", [1])], plan, repaired=True)
    assert list(labels.removed().reasons) == ["DC202 in 'x': <= 3, after repair", "DC104 in 'y': after repair"]


def test_an_infinity_that_is_repaired_is_not_judged_by_the_bound_before() -> None:
    found = [outcome("DC102", "x", [0, 2]), outcome("DC202", "x", [0, 1, 2])]
    repair = {"action": "nan_to_num", "posinf": 1}
    for rules, removed in (
        ([repair], [1]),
        ([repair, {"action": "drop_row", "codes": "DC202"}], [1]),
        ([{"action": "drop_row", "codes": "DC202"}, repair], [0, 1, 2]),
        ([{"action": "report", "codes": "DC102"}], [0, 1, 2]),
    ):
        labels = RowLabels(3)
        label_rows(labels, found, parse_plan(rules))
        assert labels.removed().rows.tolist() == removed


def test_a_fail_rule_counts_and_labels_nothing() -> None:
    labels = RowLabels(3)
    failed = label_rows(labels, [outcome("DC101", "x", [0, 2])], parse_plan([{"action": "fail", "codes": "DC101"}]))
    assert failed == {"DC101": 2}
    assert labels.kept.all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["DC101", "DC104", "DC202"]), st.sets(st.integers(0, 9)), st.integers(0, 3)),
        max_size=7,
    )
)
def test_rows_are_removed_as_if_each_were_labelled_alone(marks: list[tuple[str, set[int], int]]) -> None:
    actions = [Action.DROP_ROW, Action.QUARANTINE]
    labels = RowLabels(10)
    for number, (code, rows, rank) in enumerate(marks):
        labels.add(RowLabel(code, f"f{number}", np.array(sorted(rows), np.int64), actions[rank % 2], rank))
    removed = labels.removed()
    assert removed.rows.tolist() == sorted(set().union(*(rows for _, rows, _ in marks)))
    for place, row in enumerate(removed.rows.tolist()):
        broken = [label for label in labels.labels if row in label.rows]
        first = min(broken, key=lambda label: label.rank)
        assert removed.actions[place] is first.action
        assert removed.codes[place] == tuple(sorted({label.code for label in broken}))
        assert removed.reasons[place] == "; ".join(label.reason for label in broken)


def test_a_worker_process_resolves_the_rules_of_a_run_once() -> None:
    plan = UnitPlan(Schema(), CleaningPlan(), {})
    first, second = pickle.loads(pickle.dumps(plan)), pickle.loads(pickle.dumps(plan))
    assert first.resolve({"x": "float64"}) is second.resolve({"x": "float64"})
