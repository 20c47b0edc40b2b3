"""What ``torch.save`` writes: every tensor and every float in it, by its path, without a copy where none is needed."""

from __future__ import annotations

import math
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import inspect, join, read_batches, read_table, shrink_units

from datacheck.batch import Batch
from datacheck.errors import SourceError
from datacheck.numerics import is_finite, nan_mask
from datacheck.sources import ReadOptions
from datacheck.sources.numpy_pickles import numpy_stand_ins

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def save(path: Path, value: Any, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, path, **options)
    return path


def num_nan(batches: list[Batch]) -> dict[str | None, int]:
    """How many values of each leaf are NaN."""
    found: dict[str | None, int] = {}
    for batch in batches:
        for column in batch.columns:
            for leaf in column.leaves():
                count = 0
                if leaf.is_numeric and leaf.may_be_nonfinite:
                    count = int(nan_mask(np.ascontiguousarray(leaf.values), leaf.dtype).sum())
                    assert is_finite(leaf.values, leaf.dtype) or count
                found[leaf.path] = found.get(leaf.path, 0) + count
    return found


@pytest.mark.parametrize(
    "dtype",
    [
        "float64",
        "float32",
        "float16",
        "bfloat16",
        "complex64",
        "complex128",
        "complex32",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e4m3fnuz",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    ],
)
@pytest.mark.parametrize("num_dimensions", [0, 1, 3])
def test_a_nan_of_every_float_is_seen(dtype: str, num_dimensions: int, tmp_path: Path) -> None:
    kind = getattr(torch, dtype, None)
    if kind is None:
        pytest.skip(f"this torch has no {dtype}")
    shape = (2,) * num_dimensions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.full(shape, math.nan, dtype=torch.complex64 if dtype == "complex32" else torch.float32).to(kind)
    found = num_nan(read_batches(inspect(save(tmp_path / "x.pt", {"x": tensor}))))
    assert found == {"x": 2**num_dimensions}


def test_every_tensor_has_the_path_that_leads_to_it(tmp_path: Path) -> None:
    value = {
        "model": {"layer.0.weight": torch.ones(2, 3)},
        3: [torch.ones(1), (torch.ones(2), {"deep": torch.ones(3)})],
        "parameter": torch.nn.Parameter(torch.ones(4)),
        "epoch": 7,
        "name": "run",
        "flag": True,
        "none": None,
        "sizes": [1, 2, 3],
        "shape": torch.Size([2]),
        "dtype": torch.float32,
    }
    read = read_table(save(tmp_path / "x.pt", value))
    assert {name: len(values) for name, values in read.items()} == {
        "model.layer.0.weight": 2,
        "3.0": 1,
        "3.1.0": 2,
        "3.1.1.deep": 3,
        "parameter": 4,
    }


def test_floats_that_are_no_tensors_are_looked_at_too(tmp_path: Path) -> None:
    value = {
        "loss": math.nan,
        "lrs": [0.1, math.nan, 1],
        "mixed": [1.5, "a", math.nan],
        "complex": complex(0, math.nan),
    }
    found = num_nan(read_batches(inspect(save(tmp_path / "x.pt", value))))
    assert found == {"loss": 1, "lrs": 1, "mixed.0": 0, "mixed.2": 1, "complex": 1}


def test_a_long_list_of_integers_is_no_thousand_values(tmp_path: Path) -> None:
    value = {"x": torch.ones(3), "indices": list(range(1000)), "words": ["a"] * 1000}
    info = inspect(save(tmp_path / "x.pt", value), ReadOptions(max_members=10))
    assert info.num_rows == 3


def test_keys_that_give_one_path_are_both_looked_at(tmp_path: Path) -> None:
    read = read_table(save(tmp_path / "x.pt", {1: torch.ones(2), "1": torch.zeros(2)}))
    assert {name: values.tolist() for name, values in read.items()} == {"1": [1, 1], "1#2": [0, 0]}


def test_the_state_of_a_model_and_its_optimizer_is_read(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    optimizer.state_dict()["state"][0]["exp_avg"][0, 0] = math.nan
    found = num_nan(
        read_batches(inspect(save(tmp_path / "x.pt", {"m": model.state_dict(), "o": optimizer.state_dict()})))
    )
    assert found["o.state.0.exp_avg"] == 1
    assert sum(found.values()) == 1
    assert {"m.0.weight", "m.1.running_var", "o.param_groups.0.lr", "o.param_groups.0.betas"} <= set(found)


def test_the_tensors_of_a_data_set_are_columns(tmp_path: Path) -> None:
    data = torch.utils.data.TensorDataset(torch.arange(6.0).reshape(3, 2), torch.arange(3))
    info = inspect(save(tmp_path / "x.pt", data))
    assert info.aligned
    (batch,) = read_batches(info)
    assert batch.names == ["tensors.0", "tensors.1"]
    assert batch.columns[0].data.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_one_tensor_alone_has_no_name(tmp_path: Path) -> None:
    (batch,) = read_batches(inspect(save(tmp_path / "x.pt", torch.arange(3.0))))
    assert batch.num_rows == 3
    assert read_table(tmp_path / "x.pt", ReadOptions(columns=("other",)))[None].tolist() == [0, 1, 2]
    assert {leaf.path for column in batch.columns for leaf in column.leaves()} == {None}


VIEWS = {
    "transposed": lambda x: x.T,
    "strided": lambda x: x[::2, 1::3],
    "expanded": lambda x: x[:, :1].expand(-1, 5),
    "reversed in memory": lambda x: torch.flip(x, [0]),
    "an offset into its storage": lambda x: x[17:],
    "conjugate": lambda x: torch.complex(x, x).conj(),
    "negative": lambda x: torch.complex(x, x).conj().imag,
    "needs a gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_read_as_what_it_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_units(monkeypatch)
    tensor = VIEWS[name](torch.arange(600.0).reshape(60, 10))
    path = save(tmp_path / "x.pt", {"x": tensor})
    np.testing.assert_array_equal(read_table(path)["x"], tensor.detach().resolve_conj().resolve_neg().numpy())


def test_tensors_of_unequal_length_are_split_each_on_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_units(monkeypatch)
    value = {"long": torch.randn(3000, 2), "short": torch.randn(7), "half": torch.randn(900).to(torch.bfloat16)}
    info = inspect(save(tmp_path / "x.pt", value))
    assert not info.aligned
    assert len(info.units) == 7
    read = join(read_batches(info))
    np.testing.assert_array_equal(read["long"], value["long"].numpy())
    np.testing.assert_array_equal(read["short"], value["short"].numpy())
    np.testing.assert_array_equal(read["half"], value["half"].view(torch.uint16).numpy())


def test_the_values_of_sparse_tensors_are_read_with_their_rows(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dense = torch.zeros(5, 4)
        dense[1, 2], dense[3, 0] = math.nan, 2.0
        value = {"coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "csc": dense.to_sparse_csc()}
    batches = read_batches(inspect(save(tmp_path / "x.pt", value)))
    assert num_nan(batches) == {"coo": 1, "csr": 1, "csc": 1}
    for batch in batches:
        values = batch.columns[0].data
        assert batch.file_rows(np.flatnonzero(np.isnan(values))).tolist() == [1]
        assert batch.file_rows(np.flatnonzero(values == 2)).tolist() == [3]


def test_quantized_values_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensor = torch.quantize_per_tensor(torch.tensor([0.5, 1.0]), 0.5, 0, torch.quint8)
    assert read_table(save(tmp_path / "x.pt", {"x": tensor}))["x"].tolist() == [0.5, 1.0]


def test_what_cannot_be_looked_into_is_said(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", {"x": torch.ones(3), "meta": torch.ones(3, device="meta")})
    leaves = [leaf for batch in read_batches(inspect(path)) for column in batch.columns for leaf in column.leaves()]
    assert {leaf.path: leaf.problem for leaf in leaves} == {
        "x": "",
        "meta": "a tensor on the device 'meta' has no values",
    }


@pytest.mark.parametrize("value", [{"x": torch.arange(3.0), "y": [torch.arange(3)]}, torch.arange(3.0)])
def test_files_of_the_format_before_1_6_are_read(value: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", value, _use_new_zipfile_serialization=False)
    assert all(values.tolist() == [0, 1, 2] for values in read_table(path).values())


def test_a_large_file_of_the_format_before_1_6_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacheck.sources.torch_file.MAX_LEGACY_BYTES", 100)
    path = save(tmp_path / "x.pt", torch.ones(100), _use_new_zipfile_serialization=False)
    with pytest.raises(SourceError, match=r"torch before 1\.6.*save it again"):
        inspect(path)


def test_what_is_needed_and_not_allowed_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", {"x": torch.ones(3), "other": torch.nn.Linear(1, 1)})
    with pytest.raises(SourceError, match=r"loading it needs 'torch\..*Linear', which can run code") as caught:
        inspect(path)
    assert caught.value.code == "DC903"


NUMPY_VALUES = [
    np.array([[1, np.nan, 3], [4, 5, np.inf]]),
    np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
    np.array([1, 2], ">f4"),
    np.array([1 + 2j, np.nan], "c8"),
    np.array([True, False]),
    np.array(["a", "bc"]),
    np.empty((0, 3), "f8"),
    np.array(7, "u1"),
    np.float64("nan"),
    np.int8(-3),
    np.random.RandomState(0).get_state()[1],
]


@pytest.mark.parametrize("value", NUMPY_VALUES, ids=lambda value: f"{value.dtype}-{value.shape}")
@pytest.mark.parametrize("is_zip", [True, False])
def test_values_of_numpy_are_read_as_what_they_are(value: Any, is_zip: bool, tmp_path: Path) -> None:
    saved = {"x": torch.ones(3), "other": {"a": [value]}}
    path = save(tmp_path / "x.pt", saved, _use_new_zipfile_serialization=is_zip)
    before = set(torch.serialization.get_safe_globals())
    read = read_table(path)
    assert set(torch.serialization.get_safe_globals()) == before
    assert list(read) == ["x", "other.a.0"]
    np.testing.assert_array_equal(read["other.a.0"], np.atleast_1d(value))
    assert read["other.a.0"].dtype == value.dtype.newbyteorder("=")


def test_values_of_numpy_are_read_the_same_when_the_user_allows_them(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", {"x": np.float64("nan")})
    with torch.serialization.safe_globals([np.dtype]):
        before = set(torch.serialization.get_safe_globals())
        assert num_nan(read_batches(inspect(path))) == {"x": 1}
        assert set(torch.serialization.get_safe_globals()) == before


def _reduced_array(shape: Any, dtype: Any, data: Any, kind: Any = np.ndarray) -> Any:
    """An object whose pickle is that of an array with this state."""
    make = np.zeros(1).__reduce__()[0]
    return _Reduced((make, (kind, (0,), b"b"), (1, shape, dtype, False, data)))


class _Reduced:
    def __init__(self, reduced: tuple[Any, ...]) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


DAMAGED_ARRAYS = {
    "few bytes": ((_reduced_array((3,), np.dtype("f8"), b"12345678")), r"shape \(3,\) has 8 bytes"),
    "huge": ((_reduced_array((1 << 40,), np.dtype("f8"), b"12345678")), r"shape \(1099511627776,\) has 8 bytes"),
    "huge and empty": (_reduced_array((0, 1 << 45, 1 << 45), np.dtype("f8"), b""), "has 0 bytes"),
    "negative": (_reduced_array((-1,), np.dtype("f8"), b"12345678"), "without a shape"),
    "dimensions": (_reduced_array((1,) * 100, np.dtype("f8"), b"12345678"), "without a shape"),
    "no bytes": (_reduced_array((1,), np.dtype("f8"), [1.0]), "has a value of type list"),
    "no dtype": (_reduced_array((1,), "f8", b"12345678"), "without a dtype"),
    "other class": (_reduced_array((1,), np.dtype("f8"), b"12345678", np.dtype), "another class"),
    "no state": (_Reduced((np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b"), ())), "without a shape"),
    "called": (_Reduced((np.ndarray, ((1 << 40,),))), "not made as NumPy does"),
    "bytes": (_Reduced((bytes, (1 << 40,))), "not made as pickles do"),
    "scalar": (_Reduced((np.float64(1).__reduce__()[0], (np.dtype("f8"), b"1"))), r"shape \(\) has 1 bytes"),
    "dtype": (_Reduced((np.dtype, ("f8", False, True), (3, "x", None))), "without a byte order"),
}


@pytest.mark.parametrize("name", DAMAGED_ARRAYS)
def test_values_of_numpy_that_their_bytes_do_not_have_are_refused(name: str, tmp_path: Path) -> None:
    value, problem = DAMAGED_ARRAYS[name]
    path = save(tmp_path / "x.pt", {"x": value, "array": np.ones(1)})
    with pytest.raises(SourceError, match=problem) as caught:
        inspect(path)
    assert caught.value.code == "DC901"


@pytest.mark.parametrize(
    "value",
    [
        np.array([None, 1.0]),
        np.zeros(2, [("a", "f4")]),
        np.array(["2026-01-01"], "M8[s]"),
        _Reduced((np.dtype, ("S0", False, True))),
        _Reduced((np.dtype, ("f8,f8", False, True), (3, "<", None, None, None, -1, -1, 0))),
    ],
    ids=["objects", "fields", "times", "empty text", "a dtype"],
)
def test_arrays_of_python_objects_are_not_read_and_the_others_are(value: Any, tmp_path: Path) -> None:
    if not isinstance(value, np.ndarray):
        value = _reduced_array((2,), value, b"1" * 32)
    path = save(tmp_path / "x.pt", {"x": torch.ones(3), "other": value})
    batches = read_batches(inspect(path))
    assert num_nan(batches)["x"] == 0
    problems = {column.name: column.problem for batch in batches for column in batch.columns if column.problem}
    assert list(problems) == ["other"]
    assert "NumPy's dtype" in problems["other"]


def test_another_thread_gets_no_arrays_that_are_not_numpys(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", {"x": np.ones(1)})
    with numpy_stand_ins(torch.serialization), ThreadPoolExecutor(1) as pool:
        loaded = pool.submit(torch.load, path)
        assert "in another thread; load the file again" in str(loaded.exception())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_no_torch_wrote_is_refused_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"x": 1.0}))
    with pytest.raises(SourceError, match=r"cannot be unpickled \(Unsupported operand") as caught:
        inspect(tmp_path / "x.pt")
    assert "file an issue" not in str(caught.value)


def test_no_torch_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "x.pt", torch.ones(3))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SourceError, match=r"pip install 'datacheck-ml\[torch\]'") as caught:
        inspect(path)
    assert caught.value.code == "DC901"


@pytest.mark.parametrize("version", ["2.5.1", "1.13.0+cu117"])
def test_a_torch_that_can_be_made_to_run_code_is_refused(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "x.pt", torch.ones(3))
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(SourceError, match=r"install torch 2\.6 or newer"):
        inspect(path)


def test_the_list_of_allowed_globals_is_left_as_it_was(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", torch.ones(3))
    before = set(torch.serialization.get_safe_globals())
    read_table(path)
    assert set(torch.serialization.get_safe_globals()) == before
