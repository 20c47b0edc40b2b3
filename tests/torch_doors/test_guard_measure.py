"""The guard's measurements miss no non-finite value, in any dtype and layout, on the host or on a device."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.torch import Guard, NonFiniteError  # noqa: E402
from datacheck.torch.guard.layer_monitor import LayerMonitor  # noqa: E402
from datacheck.torch.guard.norms import squares, total_norm  # noqa: E402
from datacheck.torch.guard.step_state import StepState  # noqa: E402
from datacheck.torch.values import count_nonfinite, zero_nonfinite  # noqa: E402

pytestmark = pytest.mark.torch

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu]

LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "contiguous": lambda t: t,
    "transposed": lambda t: t.mT.contiguous().mT,
    "every other": lambda t: torch.stack([t, torch.ones_like(t)], -1)[..., 0],
    "channels last": lambda t: t[None].contiguous(memory_format=torch.channels_last)[0],
    "expanded": lambda t: t[None].expand(3, *t.shape),
    "of a graph": lambda t: t.clone().requires_grad_() * 1,
    "parameter": nn.Parameter,
}


def with_bad(dtype: torch.dtype, value: float, position: int) -> torch.Tensor:
    tensor = torch.ones(2, 3, 4, dtype=dtype if dtype not in FLOAT8 else torch.float32)
    tensor.view(-1)[position] = value
    return tensor.to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
@given(value=st.sampled_from([math.nan, math.inf, -math.inf]), position=st.integers(0, 23))
def test_no_bad_value_is_missed(dtype: torch.dtype, layout: str, value: float, position: int) -> None:
    tensor = LAYOUTS[layout](with_bad(dtype, value, position))
    assert not math.isfinite(squares(tensor))
    assert not bool(torch.isfinite(total_norm([torch.ones(2), tensor])))
    copies = 3 if layout == "expanded" else 1
    assert count_nonfinite(tensor) == (copies, 24 * copies)


@pytest.mark.parametrize("dtype", FLOAT8)
@given(position=st.integers(0, 23))
def test_no_bad_value_is_missed_in_float8(dtype: torch.dtype, position: int) -> None:
    tensor = with_bad(dtype, math.nan, position)
    assert not math.isfinite(squares(tensor))
    assert not bool(torch.isfinite(total_norm([tensor])))
    assert count_nonfinite(tensor) == (1, 24)
    assert count_nonfinite(torch.ones(4).to(dtype)) == (0, 4)
    assert math.isfinite(squares(torch.ones(4).to(dtype)))


@pytest.mark.parametrize("dtype", FLOATS)
@given(seed=st.integers(0, 100), size=st.integers(0, 5000))
def test_the_sum_of_squares_is_that_of_numpy(dtype: torch.dtype, seed: int, size: int) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype)
    wide = tensor.to(torch.complex128).numpy()
    expected = float(np.sum(np.abs(wide) ** 2))
    assert squares(tensor) == pytest.approx(expected, rel=1e-4)
    assert float(total_norm([tensor, torch.zeros(3)])) ** 2 == pytest.approx(expected, rel=1e-3)


def sparse(value: float) -> list[torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dense = torch.tensor([[0.0, value], [1.0, 0.0]])
        uncoalesced = torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, value], (2, 2), check_invariants=True)
        nested = torch.nested.nested_tensor([torch.ones(2), torch.tensor([value])], layout=torch.jagged)
        return [dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc(), uncoalesced, nested]


@pytest.mark.parametrize("position", range(5))
def test_sparse_and_nested_tensors_are_checked(position: int) -> None:
    bad, good = sparse(math.nan)[position], sparse(2.0)[position]
    assert not math.isfinite(squares(bad))
    assert count_nonfinite(bad)[0] == 1
    assert squares(good) == pytest.approx(5.0 if position < 4 else 6.0)
    assert count_nonfinite(good)[0] == 0


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_dtypes_without_nan_are_not_checked(dtype: torch.dtype) -> None:
    tensor = torch.ones(4).to(dtype)
    assert squares(tensor) == 0.0
    assert count_nonfinite(tensor)[0] == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_zero_nonfinite_changes_bad_values_only(dtype: torch.dtype) -> None:
    tensor = with_bad(dtype, math.inf, 5).mT
    expected = torch.where(torch.isfinite(tensor), tensor, torch.zeros((), dtype=dtype))
    zero_nonfinite(tensor)
    assert torch.equal(tensor, expected)


class Elsewhere(torch.Tensor):
    """A tensor that claims to be on an accelerator, and counts how often it is waited for."""

    is_cpu = False  # type: ignore[assignment]
    num_reads = 0

    def tolist(self) -> Any:
        Elsewhere.num_reads += 1
        return self.as_subclass(torch.Tensor).tolist()

    item = tolist
    __float__ = tolist
    __bool__ = tolist


def move(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().as_subclass(Elsewhere)


def on_a_device(value: float = 1.0) -> tuple[nn.Linear, torch.optim.Optimizer, Callable[[], None]]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = move(torch.full_like(parameter, value))
        optimizer.step()

    return model, optimizer, step


def test_gradients_of_a_device_are_read_in_one_transfer() -> None:
    model, optimizer, step = on_a_device(2.0)
    guard = Guard(model, optimizer)
    step()
    before = Elsewhere.num_reads
    step()
    assert Elsewhere.num_reads == before + 1
    assert guard.history.gradient_norms == pytest.approx([2.0 * 8**0.5] * 2)


def test_a_bad_gradient_of_a_device_stops_the_update() -> None:
    model, optimizer, step = on_a_device(math.nan)
    before = model.weight.detach().clone()
    guard = Guard(model, optimizer)
    with pytest.raises(NonFiniteError):
        step()
    assert torch.equal(before, model.weight)
    assert guard.report().findings[0].num_violations == 8


def test_layers_on_a_device_are_summed_there_and_read_on_demand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    watch = LayerMonitor(model, StepState())
    watch._order[1] = None
    for _ in range(2):
        watch._add(watch._outputs, 1, move(torch.full((4,), 3.0)), 0)
        watch._output_sizes[1] += 4
    watch._add(watch._gradients, 1, move(torch.tensor([math.nan])), len(watch.names))
    watch._gradient_sizes[1] += 1
    (reading,) = watch.read()
    assert reading.name == "0"
    assert reading.output == pytest.approx(3.0)
    assert reading.gradient is not None
    assert math.isnan(reading.gradient)
    watch.begin()
    assert watch.read() == []


def test_the_state_after_an_update_on_a_device_is_read_with_the_next_step() -> None:
    model, optimizer, step = on_a_device()
    guard = Guard(model, optimizer)
    step()
    monitor = guard._runner.monitor
    with torch.no_grad():
        model.bias[0] = math.nan
    monitor.updates.unread.state = (1, 0.0, torch.tensor(math.nan))
    with pytest.raises(NonFiniteError):
        step()
    finding = guard.report().findings[0]
    assert (finding.code, finding.field) == ("DC455", "bias")
    assert "step 1" in finding.detail
