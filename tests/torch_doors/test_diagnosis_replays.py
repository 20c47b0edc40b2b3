"""Replays: what they put back, what they are not disturbed by, and whose line they name."""

from __future__ import annotations

import importlib
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.errors import UsageError  # noqa: E402
from datacheck.torch import Diagnosis, diagnose  # noqa: E402

pytestmark = pytest.mark.torch


def found(*args) -> Diagnosis:
    diagnosis = diagnose(*args)
    assert diagnosis is not None
    return diagnosis


class Counting(nn.Module):
    """Changes everything about itself that a module may change in a forward pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("average", torch.ones(2))
        self.register_buffer("total", torch.zeros(2))
        self.calls = 0
        self.plain = torch.zeros(2)
        self.last = None

    def forward(self, x):
        self.average = 0.9 * self.average + 0.1 * x.detach().mean(0)
        self.total += 1
        self.plain.add_(1)
        self.calls += 1
        self.last = self.layer(x)
        self.seen = self.calls
        return self.last / (self.average - self.average)


class TestPutsBack:
    def test_buffers_counters_and_tensors_of_a_module(self):
        model = Counting()
        average = model.average
        assert found(lambda m, x: m(x).mean(), model, torch.randn(4, 2)).cause == "division-by-zero"
        assert model.average is average
        assert torch.equal(average, torch.ones(2))
        assert torch.equal(model.total, torch.zeros(2))
        assert torch.equal(model.plain, torch.zeros(2))
        assert (model.calls, model.last, hasattr(model, "seen")) == (0, None, False)

    def test_a_batch_that_the_program_overwrites(self):
        x = torch.rand(5, 2) + 1.5
        x[2, 0] = 0
        before = x.clone()
        diagnosis = found(lambda m, b: m(b["x"].log_()).mean(), nn.Linear(2, 1), {"x": x})
        assert (diagnosis.cause, diagnosis.samples) == ("log-of-zero-or-negative", (2,))
        assert torch.equal(x, before)

    def test_weights_that_the_program_overwrites(self):
        model = nn.Linear(2, 1)
        before = model.weight.detach().clone()

        def loss_fn(model, x):
            with torch.no_grad():
                model.weight.mul_(0.5)
            return (model(x) / 0).mean()

        found(loss_fn, model, torch.randn(4, 2))
        assert torch.equal(model.weight, before)

    def test_random_states_of_numpy_python_and_the_programs_own(self):
        generator = torch.Generator().manual_seed(3)
        own, python, array = generator.get_state(), random.getstate(), np.random.get_state()[1:3]  # noqa: NPY002

        def loss_fn(model, x):
            noise = torch.rand(len(x), 1, generator=generator) + random.random() + np.random.rand()  # noqa: NPY002
            return (model(x) * noise / 0).mean()

        found(loss_fn, nn.Linear(2, 1), torch.randn(4, 2))
        assert torch.equal(own, generator.get_state())
        assert python == random.getstate()
        now = np.random.get_state()[1:3]  # noqa: NPY002
        assert np.array_equal(array[0], now[0])
        assert array[1] == now[1]

    @pytest.mark.parametrize("with_graph", [True, False])
    def test_gradients_of_a_program_that_runs_backward_itself(self, with_graph):
        model = nn.Linear(2, 1)
        model.weight.grad = torch.ones(1, 2)

        def loss_fn(model, x):
            loss = model(x).mean()
            loss.backward()
            return loss if with_graph else loss.detach()

        with pytest.raises(UsageError, match=r"called backward\(\) itself"):
            diagnose(loss_fn, model, torch.randn(4, 2))
        assert torch.equal(model.weight.grad, torch.ones(1, 2))
        assert model.bias.grad is None

    def test_a_random_fault_is_blamed_on_the_samples_that_had_it(self):
        """The same numbers are drawn in each replay, so that replays of a part agree with the whole."""
        generator = torch.Generator().manual_seed(0)

        def loss_fn(model, batch):
            kept = torch.rand(len(batch["x"]), generator=generator) < 2
            return (model(batch["x"]).squeeze(1) / batch["t"])[kept].mean()

        batch = {"x": torch.randn(6, 2), "t": torch.tensor([1.0, 2, 0, 1, 1, 3])}
        assert found(loss_fn, nn.Linear(2, 1), batch).samples == (2,)


class TestIsNotDisturbed:
    def test_by_detect_anomaly(self):
        with torch.autograd.set_detect_anomaly(True):
            diagnosis = found(lambda m, x: (m(x) * 0).sqrt().sum(), nn.Linear(3, 1), torch.randn(4, 3))
            assert torch.is_anomaly_enabled()
        assert diagnosis.cause == "sqrt-gradient-at-zero"

    def test_by_torchscript(self):
        class Log(nn.Module):
            def forward(self, x):
                return (x * 0).log()

        with pytest.warns(DeprecationWarning, match="jit"):
            model = torch.jit.trace(nn.Sequential(nn.Linear(2, 2), Log()), torch.randn(4, 2))
        assert found(lambda m, x: m(x).mean(), model, torch.randn(4, 2)).cause == "log-of-zero-or-negative"

    def test_by_a_trace_function_that_is_set(self):
        class Root(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.root = np.zeros(x.shape, np.float32)
                return x * 1

            @staticmethod
            def backward(ctx, gradient):
                with np.errstate(all="ignore"):
                    return torch.from_numpy(gradient.numpy() / ctx.root)

        def trace(frame, event, argument):
            return None

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            diagnosis = found(lambda m, x: Root.apply(m(x)).sum(), nn.Linear(2, 1), torch.randn(3, 2))
            assert sys.gettrace() is trace
        finally:
            sys.settrace(before)
        assert "gradient.numpy() / ctx.root" in (diagnosis.source or "")

    def test_by_hooks_of_the_users(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        model[0].register_forward_hook(lambda module, given, output: output / 0)
        diagnosis = found(lambda m, x: m(x).mean(), model, torch.randn(4, 3))
        assert "output / 0" in (diagnosis.source or "")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package as pip installs it: a function that fails, and a module that does."""
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "torchlike.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def relative(a, b):\n"
        "    return (a - b) / (b - b)\n"
        "class Logarithm(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.log(x * 0)\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("torchlike")
    sys.modules.pop("torchlike")


class TestWhoseLine:
    def test_a_librarys_function_is_named_by_the_line_that_called_it(self, library):
        diagnosis = found(lambda m, x: library.relative(m(x), x[:, :1]).mean(), nn.Linear(2, 1), torch.randn(4, 2))
        assert Path(diagnosis.filename or "").name == Path(__file__).name
        assert "library.relative(m(x)" in (diagnosis.source or "")

    def test_a_librarys_module_is_named_by_its_own_line(self, library):
        model = nn.Sequential(nn.Linear(2, 2), library.Logarithm())
        diagnosis = found(lambda m, x: m(x).mean(), model, torch.randn(4, 2))
        assert (Path(diagnosis.filename or "").name, diagnosis.lineno, diagnosis.module) == ("torchlike.py", 7, "1")

    def test_code_without_a_file(self):
        names = {"torch": torch}
        exec("def loss_fn(m, x):\n    return (m(x) * 0).log().mean()\n", names)
        diagnosis = found(names["loss_fn"], nn.Linear(2, 1), torch.randn(4, 2))
        assert (diagnosis.filename, diagnosis.lineno, diagnosis.source) == ("<string>", 2, None)


def test_json_has_no_numbers_that_json_lacks():
    diagnosis = Diagnosis(
        code="DC401", phase="loss", cause="overflow", explanation="nan", origins=({"value": float("nan"), "row": 3},)
    )

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads(diagnosis.to_json(), parse_constant=refuse)
    assert record["origins"] == [{"value": "nan", "row": 3}]
