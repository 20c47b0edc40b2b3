"""A guard around typical training loops."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from datacheck.torch import Guard, NonFiniteError  # noqa: E402
from datacheck.torch.guard.layer_monitor import LayerMonitor  # noqa: E402
from datacheck.torch.guard.step_state import StepState  # noqa: E402

pytestmark = pytest.mark.torch


class Tied(nn.Module):
    """Tied input and output weights, and a frozen part between."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.frozen(self.embedding(tokens)))


def cross_entropy(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(tokens), tokens)


def mean(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch).pow(2).mean()


def parameters_of(*modules: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("mode", ["plain", "step", "loop"])
def test_tied_and_frozen_weights(mode: str) -> None:
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    guard = None if mode == "plain" else Guard(model, optimizer, watch="layers")
    tokens = torch.tensor([0, 3, 3, 1])
    for _ in range(4):
        if mode == "step":
            assert guard is not None
            guard.step(cross_entropy, tokens)
        else:
            optimizer.zero_grad()
            cross_entropy(model, tokens).backward()
            optimizer.step()
    torch.manual_seed(0)
    other = Tied()
    plain = torch.optim.AdamW([other.head.weight], lr=0.1)
    for _ in range(4):
        plain.zero_grad()
        cross_entropy(other, tokens).backward()
        plain.step()
    assert same(parameters_of(model), parameters_of(other))
    with torch.no_grad():
        model.embedding.weight[3, 1] = math.nan
    if guard is not None:
        with pytest.raises(NonFiniteError) as caught:
            guard.step(cross_entropy, tokens)
        assert caught.value.diagnosis.cause == "parameter-not-finite"


def test_the_scaler_handles_overflows_of_a_fused_optimizer() -> None:
    def run(with_guard: bool) -> tuple[list[torch.Tensor], float]:
        torch.manual_seed(0)
        model = nn.Linear(4, 4)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=2)
        guard = Guard(model, optimizer, scaler=scaler) if with_guard else None
        for number in range(8):
            optimizer.zero_grad()
            loss = mean(model, torch.full((2, 4), 100.0 * (1 + number)))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        assert guard is None or guard.report().ok, str(guard.report())
        return parameters_of(model), scaler.get_scale()

    first, second = run(False), run(True)
    assert first[1] == second[1] < 2.0**120
    assert same(first[0], second[0])


def test_clipping_by_the_user_between_backward_and_step_does_not_hide_a_nan() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = parameters_of(model)
    batch = torch.tensor([[1.0, math.inf]])
    with Guard(model, optimizer) as guard:
        mean(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with pytest.raises(NonFiniteError) as caught:
            optimizer.step()
    assert caught.value.diagnosis.cause == "input-not-finite"
    assert guard.report().findings[0].code == "DC450"
    assert same(before, parameters_of(model))


@pytest.mark.parametrize("mode", ["step", "loop"])
def test_the_faulty_micro_batch_is_found(mode: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [torch.ones(3, 2) for _ in range(4)]
    batches[2][1, 0] = math.nan
    guard = Guard(model, optimizer, accumulation_steps=4)

    def backward(batch: torch.Tensor) -> None:
        if mode == "step":
            guard.step(mean, batch)
        else:
            (mean(model, batch) / 4).backward()

    for batch in batches[:3]:
        backward(batch)
    with pytest.raises(NonFiniteError) as caught:
        backward(batches[3]) if mode == "step" else optimizer.step()
    assert caught.value.diagnosis.samples == (1,)


def test_two_models_with_alternating_updates_are_guarded_together() -> None:
    torch.manual_seed(0)
    both = nn.ModuleDict({"maker": nn.Linear(2, 2), "judge": nn.Linear(2, 1)})
    makers = torch.optim.Adam(both["maker"].parameters())
    judges = torch.optim.Adam(both["judge"].parameters())

    def turn(noise: torch.Tensor) -> None:
        judges.zero_grad()
        both["judge"](both["maker"](noise).detach()).mean().backward()
        judges.step()
        makers.zero_grad()
        (-both["judge"](both["maker"](noise)).mean()).backward()
        makers.step()

    with Guard(both, [makers, judges], on_trip="skip", grad_spike=50.0) as guard:
        for _ in range(3):
            turn(torch.randn(4, 2))
        before = parameters_of(both)
        turn(torch.full((4, 2), math.nan))
        assert same(before, parameters_of(both))
        turn(torch.randn(4, 2))
        assert not same(before, parameters_of(both))
    assert [f.code for f in guard.report().findings].count("DC450") == 2


@pytest.mark.parametrize("kind", ["adam", "lbfgs"])
def test_a_closure_is_checked_and_its_step_skipped(kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    make = torch.optim.Adam if kind == "adam" else torch.optim.LBFGS
    optimizer = make(model.parameters(), lr=0.1)
    guard = Guard(model, optimizer, on_trip="skip")

    def closure_for(batch: torch.Tensor) -> Any:
        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = mean(model, batch)
            loss.backward()
            return loss

        return closure

    optimizer.step(closure_for(torch.ones(1, 2)))
    before = parameters_of(model)
    state = {
        key: value.clone() for key, value in optimizer.state[model.weight].items() if isinstance(value, torch.Tensor)
    }
    optimizer.step(closure_for(torch.full((1, 2), math.nan)))
    assert same(before, parameters_of(model))
    for key, value in state.items():
        assert torch.equal(value, optimizer.state[model.weight][key])
    optimizer.step(closure_for(torch.ones(1, 2)))
    assert not same(before, parameters_of(model))
    codes = [finding.code for finding in guard.report().findings]
    assert codes[0] == "DC450"
    assert codes[-1] == "DC460"


def test_layers_name_the_first_nonfinite_module() -> None:
    class Late(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.log()

    model = nn.Sequential(nn.Linear(2, 2), Late(), nn.Linear(2, 2))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    watch = LayerMonitor(model, StepState())
    watch.attach()
    watch.begin()
    model(torch.ones(1, 2)).sum().backward()
    readings = {reading.name: reading for reading in watch.read()}
    watch.remove()
    assert next(name for name, r in readings.items() if not math.isfinite(r.output or 0.0)) == "1"
    assert readings["0"].output == 0.0
    assert readings["2"].gradient == pytest.approx(1.0)
    assert readings["0"].gradient is not None
    assert not math.isfinite(readings["0"].gradient)


def test_layers_without_working_hooks_are_reported() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1), watch="layers")
    for _ in range(3):
        guard.step(lambda model, batch: model[0].forward(batch).mean(), torch.ones(1, 2))
    (finding,) = guard.report().findings
    assert finding.code == "DC005"
    assert "model.forward(x)" in finding.detail


def test_recomputation_is_not_counted_twice() -> None:
    from torch.utils.checkpoint import checkpoint

    layer = nn.Linear(2, 2)
    readings = []
    for reentrant in (None, False, True):
        watch = LayerMonitor(layer, StepState(has_gradients=True))
        watch.attach()
        watch.begin()
        x = torch.ones(1, 2, requires_grad=True)
        output = layer(x) if reentrant is None else checkpoint(layer, x, use_reentrant=reentrant)
        output.sum().backward()
        readings.append((watch._outputs[0], watch._output_sizes[0]))
        watch.remove()
    assert readings[0] == readings[1] == readings[2]


def test_a_step_skipped_by_the_user_does_not_confuse_the_next() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.ones(2, 2)
    with Guard(model, optimizer) as guard:
        for number in range(40):
            optimizer.zero_grad()
            loss = mean(model, x)
            if number % 2:
                continue
            loss.backward()
            optimizer.step()
        x[1, 1] = math.nan
        optimizer.zero_grad()
        mean(model, x).backward()
        with pytest.raises(NonFiniteError) as caught:
            optimizer.step()
    assert caught.value.diagnosis.field is None or caught.value.diagnosis.cause == "input-not-finite"
    assert guard.report().num_rows == 21


def test_guards_of_two_models_do_not_interfere() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    one = Guard(first, torch.optim.SGD(first.parameters(), lr=0.1))
    other = Guard(second, torch.optim.SGD(second.parameters(), lr=0.1), on_trip="skip")
    other.step(mean, torch.full((1, 2), math.nan))
    one.step(mean, torch.ones(1, 2))
    assert one.report().ok
    assert not other.report().ok


def test_a_report_reads_well() -> None:
    model = nn.Linear(2, 2)
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1), on_trip="skip")
    batch = torch.ones(2, 2)
    guard.step(mean, batch)
    assert str(guard.report()).startswith("no findings in 1 step (")
    batch = batch.clone()
    batch[0, 1] = math.inf
    guard.step(mean, batch)
    lines = str(guard.report()).splitlines()
    assert lines[0] == ("DC450 the loss is non-finite: it is inf; 2 parameters of 2 got a non-finite gradient (step 2)")
    assert lines[1].startswith("DC407 ")
    assert lines[2] == "DC460 info: skip: the update of step 2 was skipped (step 2)"
    assert lines[3].startswith("2 errors, 1 other finding in 2 steps (")
