"""Rules across the arrays of one sample, and of each sample of a list, in files and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import datacheck
from datacheck import Schema
from datacheck.sources import base, members

NODES = Schema(checks=[{"name": "nodes", "expr": "edge_index < num_rows(x)"}])


def messages(data: Any, schema: Any, **options: Any) -> list[str]:
    found = datacheck.scan(data, schema, **options).findings
    return [f"{one.code} {one.message}".replace(str(getattr(data, "parent", "")), "") for one in found]


def graph(num_nodes: int, *edges: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.zeros((num_nodes, 4), np.float32), "edge_index": np.array([edges, edges])}


@pytest.mark.torch
@pytest.mark.parametrize("names", [("edge_index", "x"), ("field('[].edge_index')", "field('[].x')")])
def test_a_graph_of_a_list_with_an_edge_to_no_node(tmp_path: Path, names: tuple[str, str]) -> None:
    import torch

    graphs = [graph(20, 0, 19), graph(31, 3, 31, 4), graph(25, 24)]
    torch.save([{name: torch.from_numpy(one) for name, one in some.items()} for some in graphs], tmp_path / "g.pt")
    schema = Schema(checks=[{"name": "nodes", "expr": f"{names[0]} < num_rows({names[1]})"}])
    (found,) = messages(tmp_path / "g.pt", schema)
    assert found.startswith("DC302 1 of 3 rows break nodes: ")
    assert found.endswith("(/g.pt, row 1)")


@pytest.mark.torch
def test_samples_that_happen_to_have_equal_lengths_are_samples_all_the_same(tmp_path: Path) -> None:
    import torch

    samples = [{"ids": torch.arange(3), "mask": torch.ones(3, dtype=torch.bfloat16) * number} for number in range(3)]
    torch.save(samples, tmp_path / "s.pt")
    (found,) = messages(tmp_path / "s.pt", Schema(checks=["max(mask) < 1.5"]))
    assert found.startswith("DC302 1 of 3 rows break max(mask) < 1.5")


def test_a_list_of_samples_in_memory_with_a_field_that_one_lacks() -> None:
    graphs: list[dict[str, Any]] = [graph(3, 0, 3), {"x": np.zeros((2, 4))}, graph(2, 1), graph(1, 1)]
    found = messages(graphs, NODES)
    assert [one.partition(":")[0] for one in found] == [
        "DC302 2 of 3 rows break nodes",
        "DC005 'edge_index' could not be checked",
    ]
    assert "sample 1 has no 'edge_index'" in found[1]


def test_a_dictionary_of_arrays_of_different_lengths_is_one_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **graph(3, 0, 3))
    np.savez(tmp_path / "good.npz", **graph(3, 0, 2, 1, 0))
    assert messages(tmp_path / "good.npz", NODES) == []
    (found,) = messages(tmp_path / "bad.npz", NODES)
    assert found == (
        "DC302 1 of 1 rows break nodes: edge_index < num_rows(x): found edge_index=int64 of shape (2, 2), x=float32 of shape"
        " (3, 4) (/bad.npz)"
    )


def test_arrays_in_several_units_are_judged_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, members):
        monkeypatch.setattr(module, "TARGET_UNIT_BYTES", 64)
    np.savez(tmp_path / "bad.npz", **graph(30, 0, 30))
    for workers in (1, 3):
        (found,) = messages(tmp_path / "bad.npz", NODES, workers=workers)
        assert found.startswith("DC302 1 of 1 rows break nodes")


def test_a_rule_about_a_missing_array_is_said_not_to_be_checked(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 4)), y=np.zeros(2))
    (found,) = messages(tmp_path / "a.npz", NODES)
    assert found.startswith("DC005 'edge_index' could not be checked: it is missing, but the rule 'nodes' needs it")


def test_arrays_beyond_the_bound_are_said_not_to_be_checked(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **graph(3, 0, 3))
    options = datacheck.ReadOptions(max_whole_file_bytes=10)
    (found,) = messages(tmp_path / "a.npz", NODES, options=options)
    assert "its arrays take more than 10 bytes; raise max_whole_file_bytes" in found


def test_a_named_dimension_within_each_sample_of_a_list() -> None:
    samples = [{"x": np.zeros((3, 2)), "y": np.zeros(3)}, {"x": np.zeros((4, 2)), "y": np.zeros(3)}]
    schema = Schema(fields={"[].x": {"shape": ["N", 2]}, "[].y": {"shape": ["N"]}})
    (found,) = messages(samples, schema)
    assert found == (
        "DC307 1 of 2 rows have different sizes of N in [].x [N, 2], [].y [N]: found [].x 4, [].y 3 (<memory>, row 1)"
    )


def test_a_table_in_memory_is_judged_once() -> None:
    (finding,) = datacheck.scan(pa.table({"a": [1, -1]}), {"checks": ["a > 0"]}).findings
    assert (finding.code, finding.num_violations) == ("DC302", 1)
