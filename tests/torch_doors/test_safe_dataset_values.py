"""What is found in a sample, whatever it is made of: nothing is missed, and nothing clean is called bad."""

from __future__ import annotations

import dataclasses
import enum
import warnings
from collections import OrderedDict, UserDict, namedtuple
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loader_sets import Listed, numpy_is_finite, safe_of
from torch.nn.utils.rnn import pack_sequence

import datacheck
from datacheck.storage.documents import load_schema
from datacheck.torch import BadSampleError, BadSampleWarning
from datacheck.torch.loader.sample_check import SampleCheck

NAN, INF = float("nan"), float("inf")
Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Record:
    image: Any
    label: int
    extra: Any = None


class Graph:
    """Like PyTorch Geometric's Data: attributes, which it can tell."""

    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


class Colour(enum.Enum):
    RED = NAN


def judged(sample: Any, schema: Any = None) -> list[tuple[str, str | None]]:
    """The codes and fields of a sample, after the screen was asked, as a dataset asks."""
    sample_check = SampleCheck(load_schema(schema))
    findings = () if sample_check.is_clean(sample) else sample_check.find_violations(sample, "set", 0)
    assert sample_check.is_clean(sample) <= (not findings)
    # The screen has learned the sample's form by now, and says the same of it.
    again = () if sample_check.is_clean(sample) else sample_check.find_violations(sample, "set", 0)
    assert again == findings
    assert sample_check.are_clean([sample] * 10) <= (not findings)
    return [(finding.code, finding.field) for finding in findings]


def nan_in(dtype: torch.dtype, value: float = NAN) -> torch.Tensor:
    tensor = torch.ones(3, 5).to(dtype)
    tensor[1, 2] = value
    return tensor


FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e5m2, torch.complex64]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("value", "code"), [(NAN, "DC101"), (INF, "DC102"), (-INF, "DC103")])
def test_every_float_format_is_checked(dtype: torch.dtype, value: float, code: str) -> None:
    assert judged(nan_in(dtype, value)) == [(code, None)]
    assert judged(torch.ones(3, 5).to(dtype)) == []
    assert judged(torch.empty(0, dtype=dtype)) == []
    assert judged(nan_in(dtype, value)[1, 2]) == [(code, None)]
    assert judged(nan_in(dtype, value)[1]) == [(code, None)]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz])
def test_formats_without_infinity_have_nan(dtype: torch.dtype) -> None:
    assert judged(nan_in(dtype)) == [("DC101", None)]
    assert judged(torch.ones(3, 5).to(dtype)) == []


@pytest.mark.parametrize("size", [1, 47, 48, 49, 4096, 4097, 150_528])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, ">f4", np.longdouble])
def test_a_nan_is_found_wherever_it_is(size: int, dtype: Any) -> None:
    for place in {0, size // 2, size - 1}:
        array = np.ones(size, dtype)
        assert judged(array) == []
        array[place] = NAN
        assert judged(array) == [("DC101", None)]


@pytest.mark.filterwarnings("error")
def test_values_whose_squares_overflow_are_clean_and_silent() -> None:
    for size in (3, 100, 10_000):
        assert judged(np.full(size, 3e38, np.float32)) == []
        assert judged(torch.full((size,), 1e300, dtype=torch.float64)) == []
        assert judged(torch.full((size,), 6e4, dtype=torch.float16)) == []


FLOAT_ARRAYS = hnp.arrays(
    st.sampled_from([np.dtype(name) for name in ("f2", "f4", "f8", ">f4", ">f8", "c8", "c16")]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=50),
)


@given(FLOAT_ARRAYS, st.sampled_from(["C", "F", "strided", "reversed"]))
@settings(max_examples=80)
def test_the_screen_never_misses_and_the_verdict_is_exact(array: Any, layout: str) -> None:
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "strided" and array.ndim:
        array = array[::2]
    elif layout == "reversed" and array.ndim:
        array = array[::-1]
    assert (judged(array) == []) == numpy_is_finite(array)
    if array.dtype.isnative and layout != "reversed":
        assert (judged(torch.from_numpy(np.array(array))) == []) == numpy_is_finite(array)


NUMBERS = st.floats(width=32) | st.integers() | st.booleans()
LEAVES = NUMBERS | st.text(max_size=3) | st.none() | FLOAT_ARRAYS | NUMBERS.map(np.asarray).map(lambda a: a[()])
SAMPLES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@given(SAMPLES)
@settings(max_examples=80)
def test_a_structure_is_clean_where_every_number_in_it_is_finite(sample: Any) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list):
            return [plain(part) for part in value]
        return 0 if isinstance(value, str) or value is None or isinstance(value, int) else value

    assert (judged(sample) == []) == numpy_is_finite(plain(sample))


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("bad", [complex(0, np.nan), complex(0, np.inf)], ids=str)
def test_a_number_whose_imaginary_part_is_not_finite_is_found_beside_floats(bad: complex) -> None:
    assert judged([0.0, np.array(bad)]) != []


def test_a_narrow_number_beside_a_float_is_looked_at_without_a_warning() -> None:
    assert judged([65520.0, np.array(0, np.float16)]) == []
    assert judged([0.0, np.array(np.inf, np.float16), np.array(-np.inf, np.float16)]) != []


SMALL_ARRAYS = hnp.arrays(st.sampled_from([np.dtype("f4"), np.dtype("f8")]), st.sampled_from([(), (1,), (2,), (2, 2)]))


@given(st.lists(st.tuples(SMALL_ARRAYS, st.floats(width=32)), min_size=8, max_size=12))
@settings(max_examples=80)
def test_samples_screened_together_are_clean_only_if_each_is(samples: Any) -> None:
    sample_check = SampleCheck(load_schema(None))
    if sample_check.are_clean(samples):
        assert numpy_is_finite(samples)


def test_text_among_numbers_hides_no_nan() -> None:
    sample_check = SampleCheck(load_schema(None))
    assert not sample_check.are_clean([np.array([NAN])] + [np.array(["a"])] * 20)
    assert not sample_check.are_clean([{"x": np.array(["a"])}] * 20 + [{"x": np.array([NAN])}])


@pytest.mark.parametrize(
    ("sample", "field"),
    [
        ({"x": 1, "y": {"z": nan_in(torch.float32)}}, "y.z"),
        (OrderedDict(x=[torch.ones(2), np.float32(NAN)]), "x.1"),
        (UserDict(x=nan_in(torch.float32)), "x"),
        (MappingProxyType({"x": NAN}), "x"),
        ((torch.ones(2), NAN), "1"),
        ([torch.ones(2), nan_in(torch.float16)], "1"),
        (Pair(1.0, torch.tensor(NAN)), "right"),
        (Record(nan_in(torch.float32), 3), "image"),
        (Record(torch.ones(3), 3, {"weight": NAN}), "extra.weight"),
        (Graph(x=nan_in(torch.float32), edge_index=torch.zeros(2, 4, dtype=torch.int64)), "x"),
        (pack_sequence([torch.tensor([1.0, NAN]), torch.tensor([1.0])]), "data"),
        ({"x": [0.5, NAN, 1]}, "x"),
        ({"x": [[0.5, 1.0], [NAN, 1.0]]}, "x"),
        ({"x": np.ma.masked_array([1.0, NAN], mask=[False, False])}, "x"),
        ({"x": np.array([(1, NAN)], [("a", "i4"), ("b", "f4")])}, "x.b"),
        ({"x": torch.nn.Parameter(torch.tensor([1.0, NAN]))}, "x"),
        ({"x": torch.ones(3).requires_grad_() * NAN}, "x"),
        ({"x": nan_in(torch.float32).t()}, "x"),
        ({"x": np.moveaxis(np.full((20, 20, 3), NAN, np.float32), 2, 0)}, "x"),
        ({"x": torch.ones(1).expand(40).clone().mul_(NAN).view(8, 5)[:, ::2]}, "x"),
        ({3: NAN}, "3"),
        (complex(1, NAN), None),
        (np.complex64(complex(NAN, 1)), None),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_a_nan_is_found_in_any_structure_and_named_by_its_path(sample: Any, field: str | None) -> None:
    assert judged(sample) == [("DC101", field)]


def test_sparse_and_nested_tensors_are_checked_and_positions_are_those_of_the_tensor() -> None:
    places, values = torch.tensor([[0, 3], [2, 1]]), torch.tensor([1.0, NAN])
    sparse = torch.sparse_coo_tensor(places, values, (5, 4), check_invariants=True)
    sample_check = SampleCheck(load_schema(None))
    (finding,) = sample_check.find_violations({"x": sparse}, "set", 7)
    assert (finding.field, finding.examples[0].row, finding.examples[0].index) == ("x", 7, (3, 1))
    assert not sample_check.is_clean({"x": sparse})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls both layouts a prototype
        csr = torch.tensor([[0.0, NAN], [1.0, 0.0]]).to_sparse_csr()
        nested = torch.nested.nested_tensor([torch.ones(2), torch.tensor([1.0, NAN, 3.0])])
        jagged = torch.nested.nested_tensor([torch.ones(2), torch.tensor([NAN])], layout=torch.jagged)
    assert judged(csr) == [("DC101", None)]
    assert judged({"x": nested}) == [("DC101", "x.1")]
    assert judged({"x": jagged}) == [("DC101", "x.1")]


def test_tensordicts_are_checked() -> None:
    tensordict = pytest.importorskip("tensordict")
    sample = tensordict.TensorDict({"x": torch.ones(3), "inner": {"y": nan_in(torch.float32)[0:3]}}, batch_size=[3])
    assert judged(sample) == [("DC101", "inner.y")]
    assert judged(sample.exclude(("inner", "y"))) == []


def test_integers_text_and_their_like_are_never_bad() -> None:
    sample = {
        "label": 2**40,
        "ids": torch.arange(5),
        "mask": torch.ones(3, dtype=torch.bool),
        "text": "nan",
        "raw": b"\xff\xff",
        "path": Path("nan"),
        "colour": Colour.RED,
        "none": None,
        "bits": np.full(4, 0x7FC0, np.uint16),
    }
    assert judged(sample) == []


def test_pillow_images_are_checked() -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.ones((4, 4), np.float32)
    assert judged({"image": image.fromarray(pixels)}) == []
    assert judged({"image": image.new("RGB", (4, 4))}) == []
    pixels[1, 3] = NAN
    assert judged({"image": image.fromarray(pixels)}) == [("DC101", "image")]


def test_a_sample_that_contains_itself_ends() -> None:
    sample: dict[str, Any] = {"x": torch.ones(2)}
    sample["self"] = sample
    with pytest.warns(BadSampleWarning, match="DC005.*levels deep"):
        assert safe_of(Listed([sample] * 3))[0] is sample


def test_values_that_cannot_be_checked_are_reported_once() -> None:
    samples = [{"x": torch.ones(2), "odd": SimpleNamespace(y=NAN)} for _ in range(4)]
    safe = safe_of(Listed(samples))
    with pytest.warns(BadSampleWarning, match="DC005 'odd' could not be checked.*SimpleNamespace") as told:
        served = list(safe)
    assert all(one is sample for one, sample in zip(served, samples, strict=True))
    assert len(told) == 1
    (finding,) = safe.report().findings
    assert (finding.code, finding.field, finding.is_error) == ("DC005", "odd", False)


def test_values_that_cannot_be_checked_are_reported_in_batches_too() -> None:
    inner = Listed([{"x": torch.ones(2), "odd": SimpleNamespace(y=NAN)} for _ in range(20)])
    inner.__class__ = type("Quick", (Listed,), {"__getitems__": lambda self, keys: [self[key] for key in keys]})
    safe = safe_of(inner)
    with pytest.warns(BadSampleWarning, match="DC005 'odd'") as told:
        safe.__getitems__(list(range(20)))
    safe.__getitems__(list(range(20)))
    assert len(told) == 1


SCHEMA = {
    "fields": {
        "image": {"dtype": "float32", "shape": [3, 4, 4], "ge": 0, "le": 1},
        "label": {"dtype": "int64", "ge": 0, "lt": 10},
        "meta.age": {"dtype": "float32", "allow_nan": True, "ge": 0},
        "meta.name": {"dtype": "string", "str_matches": "[a-z]+$", "required": False},
        "ids": {"dtype": "int64", "ge": 0, "lt": 100, "required": False},
        "kind": {"dtype": "string", "isin": ["cat", "dog"], "required": False},
    }
}


def sample_of(**changes: Any) -> dict[str, Any]:
    sample: dict[str, Any] = {
        "image": torch.rand(3, 4, 4),
        "label": torch.tensor(3),
        "meta": {"age": torch.tensor(30.0), "name": "ada"},
        "ids": torch.arange(64),
        "kind": "cat",
    }
    return {name: value for name, value in {**sample, **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"label": 3, "meta": {"age": 30.0, "name": "ada"}, "ids": np.arange(64)}, []),
        ({"label": np.int64(3), "ids": ..., "kind": ...}, []),
        ({"meta": {"age": torch.tensor(NAN)}}, []),
        ({"label": torch.tensor(10)}, [("DC204", "label")]),
        ({"label": -1}, [("DC201", "label")]),
        ({"label": 3.0}, [("DC003", "label")]),
        ({"label": torch.tensor(3, dtype=torch.int32)}, [("DC003", "label")]),
        ({"ids": torch.tensor([1, 2, 100])}, [("DC204", "ids")]),
        ({"ids": torch.cat([torch.arange(99), torch.tensor([-7])])}, [("DC201", "ids")]),
        ({"image": torch.rand(3, 4, 4) + 1}, [("DC202", "image")]),
        ({"image": torch.full((3, 4, 4), NAN)}, [("DC101", "image")]),
        ({"image": torch.full((3, 4, 4), INF)}, [("DC102", "image"), ("DC202", "image")]),
        ({"image": torch.rand(3, 4, 5)}, [("DC004", "image")]),
        ({"image": torch.rand(3, 4, 4).double()}, [("DC003", "image")]),
        ({"image": ...}, [("DC001", "image")]),
        ({"image": None}, [("DC104", "image")]),
        ({"meta": {}}, [("DC001", "meta.age")]),
        ({"meta": {"age": -1.0, "name": "Ada"}}, [("DC201", "meta.age"), ("DC206", "meta.name")]),
        ({"kind": "cow"}, [("DC205", "kind")]),
        ({"image": object()}, [("DC005", "image")]),
        ({"more": torch.tensor(NAN)}, [("DC101", "more")]),
    ],
)
def test_a_schema_finds_fields_by_path(changes: dict[str, Any], expected: list[Any]) -> None:
    assert judged(sample_of(**changes), SCHEMA) == expected


def test_a_strict_schema_has_no_other_fields() -> None:
    schema = {"strict": True, "fields": {"x": {}, "meta.age": {}}}
    assert judged({"x": 1.0, "meta": {"age": 2.0, "more": 3.0}}, schema) == []
    assert judged({"x": 1.0, "meta": {"age": 2.0}, "y": 2}, schema) == [("DC002", "y")]


def test_positions_of_a_tuple_are_fields() -> None:
    schema = {"fields": {"0": {"dtype": "float32", "shape": [2]}, "1": {"dtype": "int64", "ge": 0, "le": 1}}}
    assert judged((torch.ones(2), 1), schema) == []
    assert judged((torch.ones(3), 2), schema) == [("DC202", "1"), ("DC004", "0")]


def test_the_only_field_of_a_schema_is_the_sample_itself() -> None:
    schema = {"fields": {"windows": {"dtype": "float32", "shape": [None, 24, 9], "le": 400}}}
    assert judged(torch.ones(24, 9), schema) == []
    assert judged(torch.full((24, 9), 401.0), schema) == [("DC202", None)]
    assert judged(torch.ones(23, 9), schema) == [("DC004", None)]


def test_rules_across_fields_hold_within_a_sample() -> None:
    schema = {"fields": {"low": {}, "high": {}}, "checks": ["low <= high"]}
    assert judged({"low": 1.0, "high": 2.0}, schema) == []
    assert [code for code, _ in judged({"low": 3.0, "high": 2.0}, schema)] == ["DC302"]


def test_bfloat16_kept_in_integers_is_what_the_schema_says() -> None:
    schema = {"fields": {"x": {"dtype": "bfloat16"}}}
    bits = torch.tensor([1.0, NAN]).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert judged({"x": bits}, schema) == [("DC101", "x")]
    assert judged({"x": bits[:1]}, schema) == []


def test_a_sample_and_a_file_row_with_the_same_fault_get_the_same_codes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    windows = rng.uniform(-2, 2, (50, 6, 3)).astype(np.float32)
    windows[3, 1, 1], windows[4, 0, 0], windows[5, 5, 2], windows[6, 2, 2] = NAN, INF, -INF, 99
    schema = load_schema({"fields": {"windows": {"dtype": "float32", "shape": [None, 6, 3], "ge": -5, "le": 5}}})
    np.save(tmp_path / "windows.npy", windows)
    in_file = datacheck.scan(str(tmp_path / "windows.npy"), schema=schema).findings
    safe = safe_of(Listed(list(torch.from_numpy(windows))), schema=schema)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadSampleWarning)
        safe.check()
    in_samples = safe.report().findings

    def told(findings: Any) -> set[Any]:
        return {(f.code, f.num_violations, tuple((e.row, e.index, e.value) for e in f.examples)) for f in findings}

    assert told(in_samples) == told(in_file)


def test_the_error_names_index_field_and_code() -> None:
    safe = safe_of(Listed([torch.ones(3), nan_in(torch.float32)]), on_bad="raise", name="birds")
    with pytest.raises(
        BadSampleError, match=r"birds: sample 1: DC101 1 of 15 values are NaN.*row 1, index \[1, 2\]"
    ) as told:
        safe[1]
    assert (told.value.index, told.value.codes) == (1, ("DC101",))


def test_a_check_that_needs_all_rows_is_reported_as_not_run() -> None:
    checks = {"unique_values_eq": [0.0, 1.0], "in_range": [0, 5]}
    data = safe_of([{"x": np.float32(0)}, {"x": np.float32(1)}], schema={"fields": {"x": {"checks": checks}}})
    with pytest.warns(
        BadSampleWarning, match=r"DC005 'x' could not be checked: its rules are about the whole dataset; call check\(\)"
    ):
        assert [float(data[index]["x"]) for index in range(2)] == [0, 1]
