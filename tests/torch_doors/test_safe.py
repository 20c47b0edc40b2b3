from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.autograd import gradcheck  # noqa: E402

from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import safe  # noqa: E402

pytestmark = pytest.mark.torch

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INF, NAN = math.inf, math.nan

#: A form of one value, the plain operation in NumPy, where they must agree, and the edges where gradients must be finite.
UNARY: list[tuple[str, Callable[..., object], list[float], list[float]]] = [
    ("safe_log", np.log, [1e-3, 0.5, 1.0, 7.0, 1e4], [0.0, -0.0, -1.0, -1e4]),
    ("safe_sqrt", np.sqrt, [1e-3, 0.5, 1.0, 7.0, 1e4], [0.0, -0.0, -1.0, -1e4]),
    ("safe_exp", np.exp, [-20.0, -1.0, 0.0, 2.0, 9.0], [800.0, 1e4, 6e4]),
    ("safe_acos", np.arccos, [-0.9, -0.25, 0.0, 0.5], [-1.0, 1.0, 1.5, -2.0]),
    ("safe_asin", np.arcsin, [-0.9, -0.25, 0.0, 0.5], [-1.0, 1.0, 1.5, -2.0]),
    ("safe_acosh", np.arccosh, [1.25, 2.0, 100.0], [1.0, 0.5, -1.0]),
    ("safe_atanh", np.arctanh, [-0.9, -0.25, 0.0, 0.5], [-1.0, 1.0, 1.5, -2.0]),
]


def with_gradient(
    function: Callable[..., torch.Tensor], *values: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    leaves = [value.clone().requires_grad_() for value in values]
    out = function(*leaves)
    out.sum().backward()
    return out.detach(), [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "plain", "inside", "edges"), UNARY, ids=[entry[0] for entry in UNARY])
class TestUnary:
    def test_agrees_with_float64_inside_the_domain(self, name, plain, inside, edges, dtype):
        x = torch.tensor(inside, dtype=dtype)
        expected = torch.from_numpy(plain(x.double().numpy()))
        torch.testing.assert_close(getattr(safe, name)(x), expected.to(dtype))

    def test_value_and_gradient_are_finite_at_and_beyond_the_edges(self, name, plain, inside, edges, dtype):
        out, (gradient,) = with_gradient(getattr(safe, name), torch.tensor(edges, dtype=dtype))
        assert torch.isfinite(out).all()
        assert torch.equal(gradient, torch.zeros_like(gradient))

    def test_keeps_the_dtype(self, name, plain, inside, edges, dtype):
        assert getattr(safe, name)(torch.tensor(inside + edges, dtype=dtype)).dtype == dtype

    def test_a_nan_stays_a_nan(self, name, plain, inside, edges, dtype):
        assert torch.isnan(getattr(safe, name)(torch.tensor([NAN], dtype=dtype))).all()


@pytest.mark.parametrize(("name", "plain", "inside", "edges"), UNARY, ids=[entry[0] for entry in UNARY])
def test_gradients_are_those_of_finite_differences(name, plain, inside, edges):
    x = torch.tensor(inside, dtype=torch.float64, requires_grad=True)
    assert gradcheck(getattr(safe, name), (x,))


def test_the_values_at_the_edges_are_the_limits():
    assert safe.safe_sqrt(torch.tensor(0.0)) == 0
    ends = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert safe.safe_acos(ends).tolist() == [0.0, math.pi]
    assert safe.safe_asin(ends).tolist() == [math.pi / 2, -math.pi / 2]
    assert safe.safe_asin(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([math.pi / 2, -math.pi / 2])
    assert safe.safe_acosh(torch.tensor(1.0)) == 0
    assert safe.safe_log(torch.tensor(0.0), eps=1e-6).item() == pytest.approx(math.log(1e-6))
    assert safe.safe_log(torch.tensor(0.0, dtype=torch.float16), eps=1e-8).item() == pytest.approx(-9.7, abs=0.01)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_division_by_zero_gives_the_fill_and_no_gradient(dtype):
    a, b = torch.tensor([1.0, 0.0, 3.0, -1.0], dtype=dtype), torch.tensor([0.0, 0.0, 2.0, -0.0], dtype=dtype)
    out, (of_a, of_b) = with_gradient(safe.safe_div, a, b)
    assert out.tolist() == [0, 0, 1.5, 0]
    assert of_a.tolist() == [0, 0, 0.5, 0]
    assert of_b.tolist() == [0, 0, -0.75, 0]
    assert safe.safe_div(a, b, fill=7.0).tolist() == [7, 7, 1.5, 7]


def test_division_of_a_number_and_by_a_subnormal():
    assert safe.safe_div(1.0, torch.tensor([4.0, 0.0, 1e-42])).tolist() == [0.25, 0.0, 0.0]
    assert torch.isnan(safe.safe_div(1.0, torch.tensor([NAN]))).all()


def test_powers_of_bases_that_are_not_positive():
    x = torch.tensor([0.0, -2.0, 4.0])
    out, (gradient,) = with_gradient(lambda value: safe.safe_pow(value, 0.5), x)
    assert out.tolist() == pytest.approx([0, 0, 2], abs=1e-6)
    assert gradient.tolist() == pytest.approx([0, 0, 0.25])
    exponent = torch.tensor([2.2, 0.0, 1.0])
    _, gradients = with_gradient(safe.safe_pow, x, exponent)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_angle_of_the_origin():
    y, x = torch.tensor([0.0, 1.0]), torch.tensor([0.0, -1.0])
    out, gradients = with_gradient(safe.safe_atan2, y, x)
    assert out.tolist() == pytest.approx([0, math.atan2(1, -1)])
    assert [gradient[0].item() for gradient in gradients] == [0, 0]
    inside = (torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([-1.0, 3.0], dtype=torch.float64))
    assert gradcheck(safe.safe_atan2, tuple(value.requires_grad_() for value in inside))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_norm_of_zero_and_of_values_whose_squares_overflow(dtype):
    big = min(torch.finfo(dtype).max / 4, 1e300)
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [big, big]], dtype=dtype)
    out, (gradient,) = with_gradient(lambda value: safe.safe_norm(value, dim=1), x)
    expected = torch.tensor([0.0, 5.0, float(x[2, 0]) * math.sqrt(2)], dtype=torch.float64).to(dtype)
    torch.testing.assert_close(out, expected)
    assert gradient[0].tolist() == [0, 0]
    torch.testing.assert_close(gradient[1], torch.tensor([0.6, 0.8], dtype=dtype))
    assert torch.isfinite(gradient).all()


def test_norm_dimensions():
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    for dim in (None, 1, -1, (0, 2)):
        for keepdim in (False, True):
            expected = torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)
            torch.testing.assert_close(safe.safe_norm(x, dim=dim, keepdim=keepdim), expected)
    assert gradcheck(lambda value: safe.safe_norm(value, dim=1), (x,))
    assert safe.safe_norm(torch.tensor([INF, 1.0])) == INF


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["masked_softmax", "masked_log_softmax"])
def test_masked_softmax_of_what_is_kept(name, dtype):
    scores = torch.tensor([[1.0, 2.0, NAN, 3.0], [INF, -INF, NAN, 0.5]], dtype=dtype)
    keep = torch.tensor([[True, True, False, True], [False, False, False, False]])
    out, (gradient,) = with_gradient(lambda value: getattr(safe, name)(value, keep)[:, :2], scores)
    plain = torch.softmax if name == "masked_softmax" else torch.log_softmax
    expected = plain(scores[0, [0, 1, 3]].double(), 0)[:2].to(dtype)
    torch.testing.assert_close(out[0], expected)
    nothing = 0.0 if name == "masked_softmax" else torch.finfo(dtype).min
    assert out[1].tolist() == [nothing, nothing]
    assert torch.isfinite(gradient).all()
    assert gradient[1].tolist() == [0, 0, 0, 0]
    assert gradient[0, 2] == 0


def test_masked_softmax_gradients_and_dimensions():
    scores = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    keep = torch.rand(2, 1, 4) > 0.4
    keep[0] = False
    assert gradcheck(lambda value: safe.masked_softmax(value, keep), (scores,))
    kept = keep.expand(2, 3, 4)
    assert gradcheck(lambda value: torch.where(kept, safe.masked_log_softmax(value, keep), 0.0), (scores,))
    every = torch.ones(2, 3, 4, dtype=torch.bool)
    for dim in (0, 1, 2):
        torch.testing.assert_close(safe.masked_softmax(scores, every, dim), torch.softmax(scores, dim))


@pytest.mark.parametrize("name", ["masked_mean", "masked_var", "masked_std"])
@pytest.mark.parametrize("dim", [None, 0, 1, (0, 1)])
def test_masked_statistics_against_numpy(name, dim):
    generator = np.random.default_rng(0)
    values, keep = generator.normal(3, 2, size=(6, 5)), generator.random((6, 5)) > 0.3
    hidden = np.where(keep, values, np.nan)
    oracle = {"masked_mean": np.nanmean, "masked_var": np.nanvar, "masked_std": np.nanstd}[name]
    options = {} if name == "masked_mean" else {"ddof": 1}
    expected = torch.from_numpy(np.asarray(oracle(hidden, axis=dim, **options)))
    given_ = torch.from_numpy(hidden).requires_grad_()
    out = getattr(safe, name)(given_, torch.from_numpy(keep), dim=dim)
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    assert torch.isfinite(given_.grad).all()
    x = torch.from_numpy(values).requires_grad_()
    assert gradcheck(lambda value: getattr(safe, name)(value, torch.from_numpy(keep), dim=dim), (x,))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "num_kept"), [("masked_mean", 0), ("masked_var", 1), ("masked_std", 1), ("masked_std", 0)]
)
def test_masked_statistics_of_too_few_values_are_zero(name, num_kept, dtype):
    x = torch.full((4,), NAN, dtype=dtype)
    x[:num_kept] = 5.0
    keep = torch.arange(4) < num_kept
    out, (gradient,) = with_gradient(lambda value: getattr(safe, name)(value, keep), x)
    assert out == 0
    assert out.dtype == dtype
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_masked_mean_of_a_long_float16_row_does_not_overflow():
    x = torch.full((8192,), 60.0, dtype=torch.float16)
    assert safe.masked_mean(x, torch.ones(8192, dtype=torch.bool)) == 60


def test_masked_std_of_equal_values_has_a_finite_gradient():
    x = torch.full((5,), 2.0)
    out, (gradient,) = with_gradient(lambda value: safe.masked_std(value, torch.ones(5, dtype=torch.bool)), x)
    assert out == 0
    assert torch.isfinite(gradient).all()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_no_real_number_makes_a_nan(values):
    x = torch.tensor(values, dtype=torch.float32)
    for name, *_ in UNARY:
        out, (gradient,) = with_gradient(getattr(safe, name), x)
        assert not torch.isnan(out).any(), name
        assert not torch.isnan(gradient).any(), name


@pytest.mark.parametrize("name", [entry[0] for entry in UNARY])
def test_compiles_without_a_graph_break(name):
    x = torch.tensor([0.5, 2.0, -3.0, 0.0])
    compiled = torch.compile(getattr(safe, name), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), getattr(safe, name)(x))


def test_masked_forms_compile_without_a_graph_break():
    x, keep = torch.randn(3, 4), torch.rand(3, 4) > 0.5
    for name in ("masked_softmax", "masked_log_softmax", "masked_mean", "masked_var", "masked_std"):
        compiled = torch.compile(getattr(safe, name), backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x, keep), getattr(safe, name)(x, keep))
    compiled = torch.compile(safe.safe_norm, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), safe.safe_norm(x))


def test_integers_are_converted():
    assert safe.safe_log(torch.tensor([1, 0])).dtype == torch.get_default_dtype()
    assert safe.masked_mean(torch.tensor([1, 2, 3]), torch.tensor([True, True, False])) == 1.5


def test_complex_numbers_are_refused_and_not_made_real():
    with pytest.raises(UsageError, match=r"expected a real tensor, got torch\.complex64"):
        safe.safe_log(torch.tensor([1j]))


@pytest.mark.parametrize("keep", [[1, 0], [1.0, 0.0], [0.0, -INF]])
def test_a_mask_that_is_not_boolean_is_refused(keep):
    with pytest.raises(UsageError, match="keep: expected a boolean tensor"):
        safe.masked_softmax(torch.zeros(2), torch.tensor(keep))


@pytest.mark.parametrize(("shape", "dim"), [((0,), None), ((3, 0), 1), ((0, 3), 0), ((2, 0, 3), (1, 2))])
def test_norm_of_no_values_is_zero(shape, dim):
    x = torch.empty(shape, requires_grad=True)
    expected = torch.linalg.vector_norm(x.detach(), dim=dim)
    found = safe.safe_norm(x, dim=dim)
    found.sum().backward()
    assert torch.equal(found.detach(), expected)
    assert safe.safe_norm(x, dim=dim, keepdim=True).dim() == len(shape)


@pytest.mark.parametrize("mean", [1e4, 1e6, 1e8])
def test_masked_variance_of_values_whose_mean_is_rounded(mean):
    x = torch.tensor([mean, mean + 8, mean + 16, 0.0])
    keep = torch.tensor([True, True, False, False])
    exact = np.var(x[:2].double().numpy(), ddof=1)
    torch.testing.assert_close(safe.masked_var(x, keep).double().item(), float(exact), rtol=1e-6, atol=0)
    wide = x.double().requires_grad_()
    assert gradcheck(lambda value: safe.masked_var(value, keep), (wide,), eps=mean * 1e-6, atol=1e-2)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5), (2, 4, 3)])
def test_decompositions_have_the_gradients_of_torch_where_values_differ(shape):
    torch.manual_seed(0)
    a = torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    def loss(left, values, right):
        return (
            left.abs().pow(3).sum()
            + (values * torch.arange(1.0, values.shape[-1] + 1)).sum()
            + right.abs().pow(3).sum()
        )

    (expected,) = torch.autograd.grad(loss(*torch.linalg.svd(a, full_matrices=False)), a)
    (given,) = torch.autograd.grad(loss(*safe.safe_svd(a)), a)
    torch.testing.assert_close(given, expected)
    if shape[-1] == shape[-2]:
        square = (a + a.mT).detach().requires_grad_()
        (expected,) = torch.autograd.grad(torch.linalg.eigh(square)[1].abs().pow(3).sum(), square)
        (given,) = torch.autograd.grad(safe.safe_eigh(square)[1].abs().pow(3).sum(), square)
        torch.testing.assert_close(given + given.mT, expected + expected.mT)


def test_decompositions_of_equal_values_have_finite_gradients():
    for a in (torch.eye(3), torch.zeros(3, 3)):
        x = a.clone().requires_grad_()
        (safe.safe_eigh(x)[1].pow(3).sum() + sum(part.pow(3).sum() for part in safe.safe_svd(x))).backward()
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 0.0, 2.0])])
def test_cross_entropy_is_that_of_torch_unless_no_target_counts(weight, smoothing):
    torch.manual_seed(0)
    logits = torch.randn(4, 3, requires_grad=True)
    target = torch.tensor([0, -100, 2, 1])
    options = {"weight": weight, "label_smoothing": smoothing}
    given = safe.safe_cross_entropy(logits, target, **options)
    torch.testing.assert_close(given, torch.nn.functional.cross_entropy(logits, target, **options))
    nothing = safe.safe_cross_entropy(logits, torch.full((4,), -100), **options)
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()


def test_masks_that_are_left_out_keep_all_that_is_not_minus_infinity():
    scores = torch.tensor([[1.0, -INF, 2.0], [-INF, -INF, -INF]], requires_grad=True)
    total = safe.masked_logsumexp(scores)
    torch.testing.assert_close(total[0], torch.tensor([1.0, 2.0]).logsumexp(0))
    assert total[1] == torch.finfo(torch.float32).min
    soft = safe.masked_softmax(scores)
    torch.testing.assert_close(soft[0], scores[0].softmax(0))
    assert not soft[1].any()
    (total[0] + soft.sum()).backward()
    assert torch.isfinite(scores.grad).all()
    x = torch.randn(5)
    torch.testing.assert_close(safe.masked_std(x), x.std())


def test_entropy_logarithms_and_unit_vectors_at_zero():
    p = torch.tensor([0.0, 0.25, 0.75], requires_grad=True)
    entropy = safe.safe_entropy(p)
    torch.testing.assert_close(entropy, torch.special.entr(p.detach()).sum())
    (unit := safe.safe_normalize(torch.zeros(3, requires_grad=True))).sum().backward()
    entropy.backward()
    assert torch.isfinite(p.grad).all()
    assert not unit.any()
    for name in ("log2", "log10"):
        x = torch.tensor([0.0, 8.0], requires_grad=True)
        y = getattr(safe, f"safe_{name}")(x)
        y.sum().backward()
        assert y[1] == getattr(torch, name)(x[1])
        assert torch.isfinite(x.grad).all()


def test_float32_for_one_operation_under_autocast_and_for_a_module_in_half():
    a = torch.full((2, 2), 300.0)
    layer = torch.nn.Linear(2, 2, bias=False).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert safe.in_float32(torch.matmul, a, a).dtype == torch.float32
    y = safe.in_float32(layer, a.half() * 100)
    y.sum().backward()
    assert y.dtype == torch.float32
    assert layer.weight.dtype == layer.weight.grad.dtype == torch.float16
