from __future__ import annotations

import gc
import json
import pickle
import sys
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from datacheck.errors import UsageError  # noqa: E402
from datacheck.schema.model import Field, Schema  # noqa: E402
from datacheck.torch import Diagnosis, diagnose  # noqa: E402
from datacheck.torch.diagnosis.examine import examine  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


class LogLayer(nn.Module):
    def forward(self, x):
        return torch.log(x)


def model_with_a_log() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), LogLayer())


def mean_of(model, batch):
    return model(batch).mean()


def found(*args, **kwargs) -> Diagnosis:
    diagnosis = diagnose(*args, **kwargs)
    assert diagnosis is not None
    return diagnosis


class TestLeavesNoTrace:
    def snapshot(self, model):
        return {name: value.clone() for name, value in model.state_dict().items()}

    @pytest.mark.parametrize("spoil", [True, False])
    def test_weights_buffers_gradients_and_random_state(self, spoil):
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
        batch = torch.randn(6, 4)
        if spoil:
            batch[2, 1] = float("nan")
        model[0].weight.grad = torch.full_like(model[0].weight, 3.0)
        before, random = self.snapshot(model), torch.get_rng_state()
        diagnosis = diagnose(mean_of, model, batch)
        assert (diagnosis is not None) == spoil
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert torch.equal(random, torch.get_rng_state())
        assert torch.equal(model[0].weight.grad, torch.full_like(model[0].weight, 3.0))
        assert model[3].weight.grad is None

    def test_hooks_on_accumulation_do_not_run(self):
        model = nn.Linear(4, 1)
        ran = []
        handle = model.weight.register_post_accumulate_grad_hook(lambda parameter: ran.append(parameter))
        diagnose(lambda m, b: torch.sqrt((m(b) * 0).square()).mean(), model, torch.randn(3, 4))
        assert ran == []
        model(torch.randn(3, 4)).sum().backward()
        assert len(ran) == 1
        handle.remove()

    def test_no_hook_is_left_and_no_tensor_is_kept(self):
        model = model_with_a_log()
        kept = []

        def loss_fn(model, batch):
            out = model(batch)
            kept.append(weakref.ref(out))
            return out.mean()

        found(loss_fn, model, torch.randn(5, 4))
        gc.collect()
        assert all(reference() is None for reference in kept)
        assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())

    def test_the_batch_is_not_written(self):
        batch = torch.randn(5, 4)
        before = batch.clone()
        found(mean_of, model_with_a_log(), batch)
        assert torch.equal(batch, before)

    def test_restores_after_an_error(self):
        model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))

        def loss_fn(model, batch):
            model(batch)
            raise KeyError("something else")

        with pytest.raises(KeyError, match="something else"):
            diagnose(loss_fn, model, torch.randn(5, 4))
        assert torch.equal(model[0].running_mean, torch.zeros(4))


class TestErrors:
    @pytest.mark.parametrize("loss", [lambda m, b: m(b), lambda m, b: 3.0, lambda m, b: None])
    def test_a_loss_that_is_no_scalar(self, loss):
        with pytest.raises(UsageError, match="one value"):
            diagnose(loss, nn.Linear(4, 4), torch.randn(2, 4))

    def test_not_a_function(self):
        with pytest.raises(UsageError, match="expected a function that returns the loss, got Tensor"):
            diagnose(torch.ones(1))

    def test_an_error_of_the_program_comes_through(self):
        with pytest.raises(RuntimeError, match="shapes"):
            diagnose(mean_of, nn.Linear(3, 1), torch.randn(2, 4))

    def test_an_unrelated_error_beside_a_masked_value_comes_through(self):
        def loss_fn(model, batch):
            torch.softmax(model(batch).masked_fill(batch > 0, float("-inf")), -1)
            raise LookupError("no such file")

        with pytest.raises(LookupError, match="no such file"):
            diagnose(loss_fn, nn.Linear(4, 4), torch.randn(2, 4))

    def test_an_error_that_a_nan_caused_is_explained(self):
        def loss_fn(model, batch):
            logits = torch.log(model(batch) * 0 - 1)
            return torch.distributions.Categorical(logits=logits, validate_args=True).entropy().mean()

        diagnosis = found(loss_fn, nn.Linear(4, 4), torch.randn(2, 4))
        assert diagnosis.cause == "log-of-zero-or-negative"
        assert "made the program raise ValueError" in diagnosis.explanation

    @pytest.mark.parametrize(
        "test", [torch.isnan, torch.isinf, lambda x: ~torch.isfinite(x)], ids=["nan", "inf", "finite"]
    )
    def test_an_assertion_about_it_is_explained(self, test):
        def loss_fn(model, batch):
            hidden = torch.log(model(batch) * 0 - float(test is torch.isnan))
            if test(hidden).any():
                raise FloatingPointError
            return hidden.mean()

        diagnosis = found(loss_fn, nn.Linear(4, 4), torch.randn(2, 4))
        assert "made the program raise FloatingPointError" in diagnosis.explanation

    def test_an_assertion_about_something_else_comes_through(self):
        def loss_fn(model, batch):
            known = ~torch.isnan(batch)
            hidden = model(torch.where(known, batch, 0.0)).relu().tanh().sigmoid().mean() * 1 + 1 - 1
            if hidden < 1e9:
                raise AssertionError("too small")
            return hidden

        batch = torch.randn(3, 4)
        batch[0, 0] = float("nan")
        with pytest.raises(AssertionError, match="too small"):
            diagnose(loss_fn, nn.Linear(4, 4), batch)


class TestWhatIsSaid:
    def test_fits_on_one_screen(self):
        deep = nn.Sequential(*[layer for _ in range(30) for layer in (nn.Linear(4, 4), nn.Tanh())])
        model = nn.Sequential(model_with_a_log(), deep)
        text = str(found(mean_of, model, torch.randn(5, 4)))
        assert len(text.splitlines()) <= 30
        assert "more …" in text

    def test_names_numbers_positions_and_line(self):
        x = torch.rand(8, 4) + 0.5
        x[3, 2] = 0.0
        diagnosis = found(
            lambda model, batch: torch.log(batch["x"] * model(batch["x"]).sum().detach().abs()).mean(),
            nn.Linear(4, 4),
            {"x": x},
        )
        assert "log received 0 at [3, 2] (1 of 32 values)" in diagnosis.explanation
        assert diagnosis.samples == (3,)
        assert "torch.log(batch" in (diagnosis.source or "")
        assert str(diagnosis).startswith(
            "DC401 log-of-zero-or-negative (loss) in aten.log.default at torch_doors/test_diagn"
        )

    def test_renders_as_json_and_comes_back(self):
        diagnosis = found(mean_of, model_with_a_log(), torch.randn(5, 4))
        record = json.loads(diagnosis.to_json())
        assert Diagnosis.from_dict(record) == diagnosis
        assert pickle.loads(pickle.dumps(diagnosis)) == diagnosis

    def test_hostile_names_are_escaped(self):
        batch = {"a\x1b[31m\u202eevil": torch.tensor([[1.0, float("nan")]])}
        diagnosis = found(lambda m, b: m(next(iter(b.values()))).sum(), nn.Linear(2, 1), batch)
        assert "\x1b" not in str(diagnosis)
        assert "\u202e" not in str(diagnosis)
        assert "\x1b" not in diagnosis.to_finding().message
        assert diagnosis.field in batch

    def test_the_chain_leads_from_the_origin_to_the_loss(self):
        chain = found(mean_of, model_with_a_log(), torch.randn(5, 4)).chain
        assert chain[0].op == "aten.log.default"
        assert chain[0].module == "2"
        assert chain[-1].op == "loss"
        assert [link.op for link in chain[1:-1]] == ["aten.mean.default"]
        assert all(0 < link.num_bad <= link.num_values for link in chain[:-1])


class TestWhereItHolds:
    def test_compiled_models_are_looked_into(self):
        model = torch.compile(model_with_a_log(), backend="eager")
        model(torch.randn(5, 4))
        diagnosis = found(mean_of, model, torch.randn(5, 4))
        assert (diagnosis.op, diagnosis.module) == ("aten.log.default", "2")

    def test_vmap_and_functional_calls(self):
        model = nn.Linear(4, 4)

        def loss_fn(model, batch):
            out = torch.func.functional_call(model, dict(model.named_parameters()), (batch,))
            return torch.func.vmap(lambda row: torch.log(row - row).sum())(out).sum()

        assert found(loss_fn, model, torch.randn(3, 4)).op == "aten.log.default"

    def test_a_fault_in_the_gradient_of_a_gradient_names_the_forward_line(self):
        def loss_fn(model, batch):
            x = batch.clone().requires_grad_()
            distance = torch.sqrt((model(x) * 0).square().sum())
            (gradient,) = torch.autograd.grad(distance, x, create_graph=True)
            return gradient.square().sum()

        diagnosis = found(loss_fn, nn.Linear(4, 4), torch.randn(3, 4))
        assert (diagnosis.cause, diagnosis.op) == ("sqrt-gradient-at-zero", "aten.sqrt.default")
        assert "distance = torch.sqrt" in (diagnosis.source or "")

    def test_in_place_writes_after_the_fault_hide_nothing(self):
        def loss_fn(model, batch):
            hidden = model(batch) * 1
            hidden[1, 2] = hidden[0, 0] / 0
            hidden += 1
            hidden.mul_(2)
            return hidden.T.contiguous().sum()

        diagnosis = found(loss_fn, nn.Linear(4, 4), torch.randn(3, 4))
        assert "hidden[0, 0] / 0" in (diagnosis.source or "")

    def test_a_bad_value_that_is_overwritten_is_no_root_cause(self):
        def loss_fn(model, batch):
            hidden = model(batch) * 1
            hidden[1] = hidden[1] / 0
            hidden[1] = 0.0
            return torch.log(hidden.detach() * 0 + batch[:, :4]).mean() + hidden.sum()

        batch = torch.rand(3, 4) + 0.1
        batch[2, 2] = -1.0
        diagnosis = found(loss_fn, nn.Linear(4, 4), batch)
        assert "torch.log(" in (diagnosis.source or "")

    def test_the_scale_of_a_grad_scaler_is_part_of_the_step(self):
        model = nn.Linear(4, 4).half()

        def replay():
            return model(torch.ones(2, 4).half()).float().sum()

        assert examine(replay, model=model) is None
        diagnosis = examine(replay, model=model, scale=2.0**20)
        assert diagnosis is not None
        assert (diagnosis.phase, diagnosis.cause) == ("backward", "float16-overflow")

    def test_a_loss_without_a_gradient(self):
        assert diagnose(lambda: torch.ones(3).sum()) is None
        assert found(lambda: torch.zeros(3).log().sum()).phase == "forward"

    def test_with_no_room_to_keep_values_the_operation_is_still_named(self, monkeypatch):
        monkeypatch.setattr(sys.modules["datacheck.torch.diagnosis.examine"], "MAX_KEPT_BYTES", 0)
        diagnosis = found(mean_of, model_with_a_log(), torch.randn(5, 4))
        assert diagnosis.op == "aten.log.default"
        assert diagnosis.module == "2"

    @pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
    def test_a_sparse_batch(self):
        sparse = torch.sparse_coo_tensor(torch.tensor([[0, 1], [1, 0]]), torch.tensor([1.0, float("nan")]), (2, 4))
        diagnosis = found(lambda m, b: (torch.sparse.mm(b["a"], m.weight.T)).sum(), nn.Linear(4, 3), {"a": sparse})
        assert (diagnosis.phase, diagnosis.field) == ("input", "a")

    @pytest.mark.parametrize("dtype", [">f4", "<f8", "f2"])
    @pytest.mark.parametrize("flip", [False, True])
    def test_a_batch_of_arrays_that_torch_cannot_share(self, dtype, flip):
        array = np.ones((3, 2), dtype=dtype)
        array[1, 1] = np.nan
        batch = {"x": array[:, ::-1] if flip else array, "name": np.array(["a", "b", None], dtype=object)}

        def loss_fn(model, batch):
            return model(torch.tensor(batch["x"].astype(np.float32))).sum()

        diagnosis = found(loss_fn, nn.Linear(2, 1), batch)
        assert (diagnosis.phase, diagnosis.field, diagnosis.samples) == ("input", "x", (1,))


class TestSamplesAndSchema:
    @pytest.mark.parametrize("view", ["flat", "time first", "as it is"])
    def test_samples_are_found_behind_a_reshaped_batch(self, view):
        x = torch.rand(3, 5, 4) + 0.1
        x[2, 4, 1] = 0.0

        def loss_fn(model, batch):
            x = batch["x"]
            x = x.reshape(-1, 4) if view == "flat" else x.transpose(0, 1) if view == "time first" else x
            return torch.log(x + model(x) * 0).mean()

        assert found(loss_fn, nn.Linear(4, 4), {"x": x}).samples == (2,)

    def test_a_bad_sample_that_is_masked_out_is_not_named(self):
        x, keep = torch.rand(6, 4) + 0.1, torch.ones(6, dtype=torch.bool)
        x[1, 0] = x[4, 0] = -1.0
        keep[1] = False

        def loss_fn(model, batch):
            loss = (torch.log(batch["x"]) + model(batch["x"])).mean(1)
            return loss[batch["keep"]].mean()

        assert found(loss_fn, nn.Linear(4, 4), {"x": x, "keep": keep}).samples == (4,)

    def test_a_fault_of_every_sample_is_nobodys(self):
        diagnosis = found(lambda m, b: (m(b) / 0).mean(), nn.Linear(4, 4), torch.rand(6, 4))
        assert diagnosis.samples == ()

    def test_samples_through_batch_norm(self):
        model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))
        batch = torch.randn(6, 4)
        batch[4, 0] = float("nan")
        assert found(mean_of, model, batch).samples == (4,)

    def test_a_schema_makes_it_a_fault_of_the_data(self):
        x = torch.rand(6, 3) + 0.1
        x[4, 1] = -7.0
        schema = Schema(fields={"x": Field(ge=0)})
        diagnosis = found(lambda m, b: (m(b["x"]) + b["x"].log()).mean(), nn.Linear(3, 3), {"x": x}, schema=schema)
        assert (diagnosis.code, diagnosis.phase, diagnosis.cause) == ("DC407", "input", "input-out-of-schema")
        assert (diagnosis.field, diagnosis.samples) == ("x", (4,))
        assert "log received -7" in diagnosis.explanation

    def test_a_violation_in_a_sample_that_did_no_harm_is_not_blamed(self):
        x = torch.rand(6, 3) + 0.1
        x[2, 0], x[4, 1] = 9.0, -7.0
        schema = Schema(fields={"x": Field(le=5)})
        diagnosis = found(lambda m, b: (m(b["x"]) + b["x"].log()).mean(), nn.Linear(3, 3), {"x": x}, schema=schema)
        assert diagnosis.cause == "log-of-zero-or-negative"


def test_agrees_with_plain_training_about_bad_gradients():
    torch.manual_seed(0)
    for seed in range(20):
        torch.manual_seed(seed)
        model, batch = nn.Linear(3, 3), torch.randn(4, 3)

        def loss_fn(model, batch):
            hidden = F.relu(model(batch) - 0.5)
            return (hidden.sum(-1).sqrt() * (hidden.sum(-1) > 0)).sum()

        loss = loss_fn(model, batch)
        loss.backward()
        is_bad = not all(bool(torch.isfinite(parameter.grad).all()) for parameter in model.parameters())
        assert (diagnose(loss_fn, model, batch) is not None) == is_bad


def test_a_model_in_place_of_the_loss_function_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"expected diagnose\(loss_fn, model, batch\), got the model first"):
        diagnose(torch.nn.Linear(2, 1), lambda model, batch: model(batch).sum(), torch.ones(1, 2))
