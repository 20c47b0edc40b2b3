from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from datacheck.torch.diagnosis.memory import Geometry  # noqa: E402
from datacheck.torch.values import bad_positions, count_bad, dense_parts, element, flatten_memory, is_finite  # noqa: E402

pytestmark = pytest.mark.torch

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


def layouts(x: torch.Tensor) -> list[torch.Tensor]:
    """The same 4 x 6 values in memory laid out in every way that programs make."""
    padded = torch.zeros(8, 13, dtype=x.dtype)
    padded[1:5, 2:8] = x
    return [
        x,
        x.T.contiguous().T,
        padded[1:5, 2:8],
        x.flip(0).flip(0),
        x.unsqueeze(1).expand(4, 3, 6)[:, 1],
        torch.stack([x, torch.zeros_like(x)], -1)[..., 0],
    ]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_value_is_found_at_every_position(dtype, bad):
    for position in (0, 7, 23):
        values = torch.ones(24, dtype=dtype)
        values[position] = bad
        for tensor in layouts(values.view(4, 6)):
            assert not is_finite(tensor)
            assert count_bad(tensor) == 1
            assert bad_positions(tensor).tolist() == [position]
    for tensor in layouts(torch.ones(4, 6, dtype=dtype)):
        assert is_finite(tensor)
        assert count_bad(tensor) == 0


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
def test_float8(dtype):
    assert is_finite(torch.ones(5).to(dtype))
    spoiled = torch.tensor([1.0, math.nan]).to(dtype)
    assert not is_finite(spoiled)
    assert bad_positions(spoiled).tolist() == [1]


def test_values_near_the_largest_are_finite():
    assert is_finite(torch.full((100,), 3e38))
    assert is_finite(torch.full((100,), 65504.0, dtype=torch.float16))
    assert is_finite(torch.full((100,), 1.7e308, dtype=torch.float64))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(3),
        torch.tensor([True]),
        torch.empty(0),
        torch.empty(2, 0),
        torch.empty(3, device="meta"),
    ],
    ids=["int", "bool", "empty", "no columns", "meta"],
)
def test_tensors_that_cannot_be_bad_are_finite(tensor):
    assert is_finite(tensor)
    assert bad_positions(tensor).tolist() == []


def test_conjugate_and_negative_views():
    values = torch.tensor([complex(1, math.nan), 1j])
    assert not is_finite(values.conj())
    assert not is_finite(values.conj().imag)
    assert is_finite(torch.tensor([1j, 2.0]).conj().imag)
    assert count_bad(values.conj()) == 1


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_parts_of_sparse_tensors_are_their_values():
    dense = torch.tensor([[0.0, math.nan], [1.0, 0.0]])
    for sparse in (dense.to_sparse(), dense.to_sparse_csr()):
        (values,) = dense_parts(sparse)
        assert count_bad(values) == 1


@given(
    shape=st.lists(st.integers(1, 4), min_size=0, max_size=4),
    permutation=st.randoms(use_true_random=False),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.complex64]),
    step=st.integers(1, 2),
)
@settings(max_examples=80, deadline=None)
def test_addresses_and_positions_map_to_the_same_element(shape, permutation, dtype, step):
    base = (
        torch.arange(math.prod(shape) * step ** len(shape), dtype=torch.float32)
        .to(dtype)
        .view([n * step for n in shape])
    )
    order = list(range(len(shape)))
    permutation.shuffle(order)
    tensor = base[tuple(slice(None, None, step) for _ in shape)].permute(order)
    geometry = Geometry.of(tensor)
    addresses = [geometry.address(position) for position in range(geometry.num_values)]
    assert len(set(addresses)) == len(addresses)
    assert [geometry.position(address) for address in addresses] == list(range(geometry.num_values))
    # The address in the view is the address of the same value in the base.
    whole = Geometry.of(base)
    for position, address in enumerate(addresses):
        found = whole.position(address)
        assert found is not None
        assert element(base, found) == element(tensor, position)


def test_addresses_outside_a_tensor_have_no_position():
    base = torch.zeros(10)
    geometry = Geometry.of(base[2:8:2])
    assert geometry.position(base.data_ptr()) is None
    assert geometry.position(geometry.address(0) + 4) is None
    assert geometry.position(geometry.address(2) + 4) is None
    assert Geometry.of(torch.empty(0)).position(0) is None


def test_the_parts_of_a_complex_number_are_inside_it():
    pair = torch.zeros(3, dtype=torch.complex64)
    real = Geometry.of(torch.view_as_real(pair))
    assert [Geometry.of(pair).position(real.address(position)) for position in range(6)] == [0, 0, 1, 1, 2, 2]


@given(st.integers(0, 23))
@settings(max_examples=20, deadline=None)
def test_flattening_keeps_every_value(position):
    values = torch.arange(24.0).view(4, 6)
    for tensor in layouts(values):
        assert sorted(flatten_memory(tensor).tolist()) == list(range(24))
    assert element(values.T, position) == np.arange(24.0).reshape(4, 6).T.reshape(-1)[position]
