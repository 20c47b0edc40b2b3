"""Suggested fixes are run before they are suggested; pasted into the program, they repair it."""

from __future__ import annotations

import linecache
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.torch import Diagnosis, diagnose  # noqa: E402

pytestmark = pytest.mark.torch

INF = math.inf


def leaf(*values: Any, dtype: Any = None) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype or torch.float32, requires_grad=True)


def first_row() -> torch.Tensor:
    return torch.tensor([[True, True], [False, False]])


def program(body: str, names: dict[str, Any], imports: str = "import torch\nimport torch.nn.functional as F") -> Any:
    """A function of the lines of ``body``, in a file of its own that returns the sum of ``y``."""
    lines = [*imports.splitlines(), "", "", "def step():", *("    " + line for line in body.splitlines())]
    lines.append("    return y.float().sum()")
    filename = f"<program {hash((body, imports))}>"
    text = "\n".join(lines) + "\n"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    namespace = dict(names)
    exec(compile(text, filename, "exec"), namespace)
    return namespace["step"]


def pasted(body: str, found: Diagnosis, names: dict[str, Any]) -> Any:
    """The program with the lines of the fix in the place of those that assign the same names."""
    imports = [line for line in found.remedy.splitlines() if line.startswith(("from ", "import "))]
    new = {line.split(" = ")[0].split(".")[0]: line for line in found.remedy.splitlines() if line not in imports}
    lines = [new.pop(line.split(" ")[0].split(".")[0].rstrip(","), line) for line in body.splitlines()[::-1]][::-1]
    assert len(new) <= 1
    return program(
        "\n".join([*new.values(), *lines]),
        names,
        "\n".join(["import torch", "import torch.nn.functional as F", *imports]),
    )


#: The cause, the line at fault, and the names that it reads. Each is repaired by a fix that is verified.
EXPRESSIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "log": ("log-of-zero-or-negative", "y = torch.log(x)", {"x": leaf(0.0, 1.0)}),
    "log of a softmax": ("log-of-zero-or-negative", "y = x.softmax(-1).log()", {"x": leaf(0.0, 300.0)}),
    "log of a product": (
        "log-of-zero-or-negative",
        "p = x.softmax(-1)\ny = torch.log(p.prod(-1))",
        {"x": leaf(*range(60), dtype=torch.float64).detach().float().div(9).requires_grad_()},
    ),
    "log1p": ("log-of-zero-or-negative", "y = torch.log1p(x)", {"x": leaf(-1.0, 1.0)}),
    "xlogy": ("log-of-zero-or-negative", "y = torch.xlogy(x, p)", {"x": leaf(1.0, 1.0), "p": leaf(0.0, 1.0)}),
    "sqrt": ("domain-error", "y = x.sqrt()", {"x": leaf(-1.0, 2.0)}),
    "acos": ("domain-error", "y = x.acos()", {"x": leaf(1.5, 0.0)}),
    "acos at the edge": ("domain-error", "y = x.acos()", {"x": leaf(1.0, 0.0)}),
    "asin": ("domain-error", "y = x.asin()", {"x": leaf(-1.0, 0.0)}),
    "acosh": ("domain-error", "y = x.acosh()", {"x": leaf(0.5, 2.0)}),
    "atanh": ("domain-error", "y = x.atanh()", {"x": leaf(1.0, 0.0)}),
    "logit": ("domain-error", "y = torch.logit(p)", {"p": leaf(0.0, 0.5)}),
    "erfinv": ("domain-error", "y = torch.erfinv(x)", {"x": leaf(1.0, 0.0)}),
    "lgamma": ("domain-error", "y = torch.lgamma(x)", {"x": leaf(0.0, 2.0)}),
    "mean of squares": ("float16-overflow", "y = (x * x).mean() / 1e4", {"x": leaf(300.0, 1.0, dtype=torch.half)}),
    "log10": ("log-of-zero-or-negative", "y = torch.log10(x)", {"x": leaf(0.0, 1.0)}),
    "entropy": ("log-of-zero-or-negative", "y = -(p * p.log()).sum(-1)", {"p": leaf([0.0, 1.0], [0.5, 0.5])}),
    "logsumexp by hand": ("exp-overflow", "y = x.exp().sum(-1).log()", {"x": leaf([200.0, 1.0])}),
    "softmax by hand": (
        "exp-overflow",
        "power = x.exp()\ny = (power / power.sum(-1, keepdim=True))[0]",
        {"x": leaf([1.0, 2.0], [200.0, 1.0])},
    ),
    "cross entropy by hand": (
        "log-of-zero-or-negative",
        "p = torch.softmax(x * 100, -1)\ny = -torch.log(p.gather(1, target[:, None]))",
        {"x": leaf([1.0, 9.0], [3.0, 2.0]), "target": torch.tensor([0, 1])},
    ),
    "binary cross entropy by hand": (
        "log-of-zero-or-negative",
        "p = torch.sigmoid(x)\ny = -(t * torch.log(p) + (1 - t) * torch.log(1 - p))",
        {"x": leaf(200.0, 1.0), "t": torch.tensor([0.0, 1.0])},
    ),
    "norm by hand": ("sqrt-gradient-at-zero", "y = (x**2).sum(-1).sqrt()", {"x": leaf([0.0, 0.0], [1.0, 2.0])}),
    "unit vectors": (
        "division-by-zero",
        "y = (x / x.norm(dim=-1, keepdim=True)).square()",
        {"x": leaf([0.0, 0.0], [1.0, 2.0])},
    ),
    "a forbidden action's entropy": (
        "domain-error",
        "log_p = x.masked_fill(~keep, -torch.inf).log_softmax(-1)\ny = -(log_p.exp() * log_p).sum(-1)",
        {"x": leaf([1.0, 2.0, 3.0]), "keep": torch.tensor([[True, True, False]])},
    ),
    "eigenvectors": (
        "degenerate-decomposition",
        "y = torch.linalg.eigh(a)[1].pow(3)",
        {"a": torch.eye(3).requires_grad_()},
    ),
    "wide matrix": (
        "degenerate-decomposition",
        "usv = torch.linalg.svd(a, full_matrices=False)\ny = usv[0] @ usv[2]",
        {"a": torch.zeros(2, 4).index_fill(1, torch.tensor([0]), 1.0).requires_grad_()},
    ),
    "targets that are all ignored": (
        "empty-reduction",
        "y = F.cross_entropy(x, target)",
        {"x": leaf([1.0, 2.0], [3.0, 4.0]), "target": torch.tensor([-100, -100])},
    ),
    "a loss over nothing": (
        "empty-reduction",
        "y = F.mse_loss(x[keep], t[keep])",
        {"x": leaf(0.2, 0.3), "t": torch.ones(2), "keep": torch.tensor([False, False])},
    ),
    "a target too long for its input": (
        "domain-error",
        "y = F.ctc_loss(x, targets, torch.tensor([2]), torch.tensor([2]))",
        {"x": leaf(*[[[0.0, 0.0, 0.0]]] * 3), "targets": torch.tensor([[1, 1]])},
    ),
    "mask that float16 cannot hold": (
        "float16-overflow",
        "mask = (1 - keep.half()) * -1e9\ny = (x + mask).softmax(-1)",
        {"x": leaf([1.0, 2.0], dtype=torch.half), "keep": torch.tensor([[0, 0]])},
    ),
    "two logarithms on one line": (
        "log-of-zero-or-negative",
        "y = torch.log(a) - torch.log(b).mean()",
        {"a": leaf(0.0, 2.0), "b": leaf(1.0, 0.0)},
    ),
    "where": (
        "masked-branch-gradient",
        "y = torch.where(x > 0, torch.sqrt(x), 0.0)",
        {"x": leaf(0.0, 2.0)},
    ),
    "in-place operator": (
        "division-by-zero",
        "y = x * 1\ny /= b",
        {"x": leaf(1.0, 0.0), "b": torch.tensor([2.0, 0.0])},
    ),
    "in-place method": ("log-of-zero-or-negative", "y = x * 1\ny.log_()", {"x": leaf(0.0, 1.0)}),
    "sqrt at 0": ("sqrt-gradient-at-zero", "y = x.sqrt()", {"x": leaf(0.0, 2.0)}),
    "half a power": ("sqrt-gradient-at-zero", "y = x**exponent", {"x": leaf(0.0, 2.0), "exponent": 0.5}),
    "quarter of a power": ("sqrt-gradient-at-zero", "y = x**exponent", {"x": leaf(0.0, 2.0), "exponent": 0.25}),
    "sigmoid by hand": ("exp-overflow", "y = 1 / (1 + torch.exp(-x))", {"x": leaf(-200.0, 1.0)}),
    "softmax": (
        "fully-masked-softmax",
        "y = scores.masked_fill(~keep, -torch.inf).softmax(-1)",
        {"scores": leaf([1.0, 2.0], [3.0, 4.0]), "keep": first_row()},
    ),
    "mean of a selection": (
        "empty-reduction",
        "y = x[keep].mean()",
        {"x": leaf(1.0, 2.0), "keep": torch.tensor([False, False])},
    ),
    "variance": ("variance-of-one", "y = x.var(dim)", {"x": leaf([1.0, 2.0]), "dim": 0}),
    "deviation": ("variance-of-one", "y = x.std(dim)", {"x": leaf([1.0, 2.0]), "dim": 0}),
}

#: Those of them whose fix puts a constant in the place of what was non-finite: nothing is left there to train.
CONSTANT = {
    "sqrt",
    "acos",
    "acosh",
    "targets that are all ignored",
    "a loss over nothing",
    "a target too long for its input",
    "softmax",
    "mean of a selection",
    "variance",
    "deviation",
    "eigenvectors",
    "mask that float16 cannot hold",
}

#: What only runs with a fix is not called verified: why, the line, and the names that it reads.
DOUBTFUL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a quotient that is left out": (
        "1 of the 1 repaired values get no gradient",
        "y = a / b",
        {"a": leaf(1.0), "b": leaf(0.0)},
    ),
    # The square has no slope at the 0 that stands for it.
    "a square of a quotient that is left out": (
        "1 of the 1 repaired values get no gradient",
        "y = a / b\ny = y * y + a",
        {"a": leaf(1.0, 2.0), "b": leaf(0.0, 1.0)},
    ),
    # The values of which it is computed get a gradient elsewhere.
    "a quotient of what is used again": (
        "1 of the 1 repaired values get no gradient",
        "s = torch.exp(x)\ny = 1.0 / s + s",
        {"x": leaf(-200.0, 1.0)},
    ),
    "a logarithm of a negative number": ("repaired values get no gradient", "y = torch.log(x)", {"x": leaf(-3.0, 1.0)}),
    "an exponential as large as it gets": ("the loss is 3.4e+38", "y = x.exp()", {"x": leaf(200.0, 1.0)}),
    "a gradient beyond use": ("the gradient norm is 5e+08", "y = x.rsqrt()", {"x": leaf(0.0, 4.0)}),
    "a finite loss that changes": (
        "the loss changes from 5 to",
        "y = torch.erfinv(x).clamp(-5, 5)",
        {"x": leaf(1.0, 0.0)},
    ),
}


@pytest.mark.parametrize(("why", "body", "names"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_fix_that_costs_something_is_not_called_verified(why, body, names):
    found = diagnose(program(body, names))
    assert found is not None
    assert not found.remedy_verified
    assert why in found.remedy_check
    assert f"suggested fix (not verified: {found.remedy_check}):" in str(found)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("y = x.masked_fill(~keep, -torch.inf).amax(-1)", {"x": leaf([1.0, 2.0], [3.0, 4.0]), "keep": first_row()}),
        ("y = (x * x).sum()", {"x": leaf(1e30, 1.0)}),
        ("y = torch.log(x)", {"x": torch.tensor([math.nan, 1.0], requires_grad=True)}),
    ],
)
def test_where_no_fix_repairs_the_step_there_is_only_advice(body, names):
    found = diagnose(program(body, names))
    assert found is not None
    assert not found.remedy_check
    assert found.remedy.startswith("#")


@pytest.mark.filterwarnings("ignore:(var|std).*degrees of freedom")
@pytest.mark.parametrize(("cause", "body", "names"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_a_fix_repairs_the_program_when_it_is_pasted_and_is_verified_where_it_passes_gradients(
    request, cause, body, names
):
    found = diagnose(program(body, names))
    assert found is not None
    print(found)
    assert found.cause == cause
    if request.node.callspec.id in CONSTANT:
        assert "repaired values get no gradient" in found.remedy_check
    assert found.remedy_verified == (request.node.callspec.id not in CONSTANT), found.remedy_check
    assert diagnose(pasted(body, found, names)) is None


def test_a_fix_keeps_the_base_of_a_logarithm_and_the_dtype():
    names = {"x": leaf(0.0, 1.0, dtype=torch.half)}
    found = diagnose(program("y = torch.log10(x).mean()", names))
    assert found is not None
    assert "log10(" in found.remedy
    assert found.remedy_verified
    assert "1e-6" not in found.remedy


def test_a_fix_is_written_with_the_names_that_the_program_has():
    found = diagnose(
        program("y = th.log(th.softmax(x, -1))", {"x": leaf(0.0, 300.0)}, "import torch as th\nfrom torch import nn")
    )
    assert found is not None
    assert found.remedy == "y = nn.functional.log_softmax(x, dim=-1)"


def test_a_fix_does_not_change_what_other_samples_contribute():
    names = {"x": leaf([1.0, 2.0], [3.0, 4.0]), "keep": first_row()}
    found = diagnose(program("scores = x.masked_fill(~keep, -torch.inf)\ny = scores.softmax(-1)", names))
    assert found is not None
    assert found.remedy.endswith("y = masked_softmax(scores, dim=-1)")
    y = pasted("scores = x.masked_fill(~keep, -torch.inf)\ny = scores.softmax(-1)", found, names)()
    torch.testing.assert_close(y, names["x"][0].softmax(-1).sum())


def test_a_criterion_module_is_rewritten_with_its_own_settings():
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.0]), label_smoothing=0.1)
    names = {"criterion": criterion, "x": leaf([1.0, 2.0]), "target": torch.tensor([1])}
    found = diagnose(program("y = criterion(x, target)", names))
    assert found is not None
    assert "1 of the 1 repaired values get no gradient" in found.remedy_check
    assert "label_smoothing=criterion.label_smoothing" in found.remedy


def test_attention_of_a_layer_to_a_sample_that_is_all_padding():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[1] = True
    names = {"layer": layer, "x": torch.randn(3, 5, 8), "padding": padding}
    body = "both = layer(x, x, x, average_attn_weights=False, key_padding_mask=padding)\ny = both[0]"
    found = diagnose(program(body, names))
    assert found is not None
    assert found.cause == "fully-masked-softmax"
    assert "average_attn_weights=False" in found.remedy
    assert found.remedy_verified
    assert diagnose(pasted(body, found, names)) is None


def test_an_operation_in_half_precision_runs_in_float32():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4, bias=False).half()
    nn.init.uniform_(layer.weight, 50.0, 100.0)
    names = {"layer": layer, "x": torch.full((2, 4), 300.0).half()}
    body = "h = layer(x)\ny = F.normalize(h.float())[:, 0]"
    found = diagnose(program(body, names))
    assert found is not None
    assert found.cause == "float16-overflow"
    assert found.remedy.splitlines()[-1] == "h = in_float32(layer, x)"
    assert found.remedy_verified


def test_a_diagnosis_written_before_fixes_were_verified_can_still_be_read():
    record = Diagnosis(code="DC401", phase="loss", cause="unknown", explanation="").to_dict()
    del record["remedy_verified"], record["remedy_check"]
    assert not Diagnosis.from_dict(record).remedy_verified
