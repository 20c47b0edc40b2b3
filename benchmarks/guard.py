"""What a guard costs: a training step with it, beside no guard, anomaly mode and hooks that call ``isfinite``.

``python -m benchmarks guard`` times each in turns with a step without a guard, by processor time, so that whatever else the
machine does hardly counts, and prints each ratio when it is known, all in about two minutes. ``--quick`` takes few steps. Where
trainers are installed, their steps are timed too.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Literal

from benchmarks.guard_device import device_section
from benchmarks.guard_trainers import trainer_sections
from benchmarks.machine import describe_machine, render_machine
from benchmarks.results import Claim, Section, render_section, render_summary, time_ratio
from benchmarks.timing import Timing

__all__ = ["main"]

PLAIN = "no guard"
STEP = 'Guard(watch="step")'
LAYERS = 'Guard(watch="layers")'
LOOP = "with Guard(...), the loop kept"

#: Makes the work anew: model, optimizer, loss function, batch.
Work = Callable[[], tuple[Any, Any, Any, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Time guards and their peers, and print ratios and targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    asked = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("guard: torch is not installed")
        return 0
    print(f"torch threads: {torch.get_num_threads()}\n", flush=True)
    sections = [
        _race("guard-mlp", "2-layer MLP whose step takes a millisecond, AdamW", _mlp, asked.quick),
        _race("guard-transformer", "10M-parameter transformer, AdamW, batch of 8 x 64", _transformer, asked.quick),
        _memory(),
        device_section(),
    ]
    print(render_section(sections[-1]), flush=True)
    sections += trainer_sections(partial(_transformer, 4), quick=asked.quick)
    print(render_summary(sections))
    return 0


def _transformer(num_rows: int = 8) -> tuple[Any, Any, Any, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    width, words = 384, 4096

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(words, width)
            layers = (
                nn.TransformerEncoderLayer(width, 6, 4 * width, 0.0, batch_first=True, norm_first=True)
                for _ in range(4)
            )
            self.layers = nn.ModuleList(layers)
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, words)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.embedding(tokens)
            for layer in self.layers:
                x = layer(x)
            return self.head(self.norm(x))

    def loss_fn(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        logits = model(batch[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1) * batch[1], batch[0].flatten())

    model = Model()
    batch = (torch.randint(0, words, (num_rows, 64)), torch.ones(()))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4), loss_fn, batch


@cache
def _rows_of_a_millisecond() -> int:
    """The batch size with which a step of the MLP takes about a millisecond here."""
    rows = 32
    while rows < 4096:
        run = _plain(*_mlp_of(rows))
        if min(_timed(run) for _ in range(200)) >= 0.9e-3:
            break
        rows += 32
    return rows


def _mlp() -> tuple[Any, Any, Any, Any]:
    return _mlp_of(_rows_of_a_millisecond())


def _mlp_of(rows: int) -> tuple[Any, Any, Any, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))

    def loss_fn(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[0]) * batch[1]

    batch = (torch.randn(rows, 64), torch.ones(()))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4), loss_fn, batch


def _timed(run: Callable[[], Any]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


#: What a step may take at most, in steps without a guard.
TARGETS = {
    "guard-transformer": {STEP: 1.02, LOOP: 1.02, LAYERS: 1.06},
    "guard-mlp": {STEP: 1.10, LOOP: 1.10, LAYERS: 1.25},
}


def _race(name: str, title: str, work: Work, quick: bool) -> Section:
    section = Section(
        name,
        title,
        [
            "Each takes ten steps in turns with ten plain ones, nothing else attached; ratios are of the medians of such tens."
        ],
    )
    print(f"== {name}", flush=True)
    is_large = work is _transformer
    plain = _plain(*work())
    contenders = _contenders(work)
    for run_name in (STEP, LOOP, LAYERS) if is_large else contenders:
        run, close = contenders[run_name]()
        # A guard looks at everything after each of the first ten updates, and at every tenth from then on.
        for _ in range(1 if quick else 11):
            run()
        taken = _take_turns(run, plain, quick=quick)
        timings = Timing(run_name, tuple(taken[0])), Timing(PLAIN, tuple(taken[1]))
        section.add_timings(timings)
        claim = time_ratio(run_name, *timings, TARGETS[name].get(run_name))
        section.claims.append(claim)
        added = (timings[0].median - timings[1].median) * 1e6
        section.notes.append(f"{run_name} adds {added:,.0f} us to a step")
        print(f"   {run_name}: {claim.measured:.3f} ({added:+,.0f} us)", flush=True)
        close()
    section.claims.append(_diagnosis(work, timings[1], 30.0 if is_large else None))
    print(render_section(section), flush=True)
    return section


def _take_turns(run: Callable[[], Any], plain: Callable[[], Any], *, quick: bool) -> tuple[list[float], list[float]]:
    """The processor time of a step, as the mean of ten, of each turn."""
    import torch

    attached, bare = torch.autograd.backward, _bare_backward()
    turn = 1 if quick else 10
    # As many turns as take three seconds, at least two.
    rounds = 2 if quick else max(2, min(300, int(1.5 / (turn * min(_timed(plain) for _ in range(3))))))
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        taken[0].append(_timed(lambda: [run() for _ in range(turn)]) / turn)
        # The guard of the contender would look at the other's backward, too.
        torch.autograd.backward = bare
        try:
            taken[1].append(_timed(lambda: [plain() for _ in range(turn)]) / turn)
        finally:
            torch.autograd.backward = attached
    return taken


def _bare_backward() -> Callable[..., None]:
    """``torch.autograd.backward`` as torch has it, whatever observes it now."""
    import inspect

    import torch

    found: Callable[..., None] = inspect.unwrap(torch.autograd.backward)
    return found


def _plain(model: Any, optimizer: Any, loss_fn: Any, batch: Any) -> Callable[[], Any]:
    def step() -> None:
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        loss.backward()
        optimizer.step()

    return step


#: Makes a contender: what runs one step of it, and what takes it away.
Contender = Callable[[], tuple[Callable[[], Any], Callable[[], None]]]


def _contenders(work: Work) -> dict[str, Contender]:
    from datacheck.torch import Guard

    def guarded(watch: Literal["step", "layers"]) -> tuple[Callable[[], Any], Callable[[], None]]:
        model, optimizer, loss_fn, batch = work()
        guard = Guard(model, optimizer, watch=watch)
        return (lambda: guard.step(loss_fn, batch)), guard.remove

    def wrapped() -> tuple[Callable[[], Any], Callable[[], None]]:
        parts = work()
        guard = Guard(parts[0], parts[1])
        return _plain(*parts), guard.remove

    def alone(make: Callable[[], Callable[[], Any]]) -> Contender:
        return lambda: (make(), lambda: None)

    runs: dict[str, Contender] = {
        STEP: partial(guarded, "step"),
        LOOP: wrapped,
        LAYERS: partial(guarded, "layers"),
        "hooks that call isfinite": alone(lambda: _isfinite_hooks(_plain, work())),
        "detect_anomaly": alone(lambda: _anomaly(_plain(*work()))),
    }
    if importlib.util.find_spec("transformers") is None:
        print("transformers is not installed: DebugUnderflowOverflow is left out\n")
    else:
        runs["transformers DebugUnderflowOverflow"] = alone(lambda: _debug_underflow_overflow(_plain, work))
    return runs


def _anomaly(step: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    def run() -> None:
        with torch.autograd.set_detect_anomaly(True):
            step()

    return run


def _isfinite_hooks(plain: Callable[..., Any], parts: tuple[Any, Any, Any, Any]) -> Callable[[], Any]:
    """What people write by hand: every module's output and every gradient, one read each."""
    import torch

    def check(_module: Any, _args: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and not torch.isfinite(output).all().item():
            raise FloatingPointError("not finite")

    def check_gradient(gradient: torch.Tensor) -> None:
        if not torch.isfinite(gradient).all().item():
            raise FloatingPointError("not finite")

    for module in parts[0].modules():
        module.register_forward_hook(check)
    for parameter in parts[0].parameters():
        parameter.register_hook(check_gradient)
    step: Callable[[], Any] = plain(*parts)
    return step


def _debug_underflow_overflow(plain: Callable[..., Any], work: Work) -> Callable[[], Any]:
    from transformers.debug_utils import DebugUnderflowOverflow

    parts = work()
    with contextlib.redirect_stdout(sys.stderr):
        DebugUnderflowOverflow(parts[0])
    step: Callable[[], Any] = plain(*parts)
    return step


def _diagnosis(work: Work, plain: Timing, target: float | None) -> Claim:
    """The step that trips, all of it: forward, backward, check, replay, diagnosis, error."""
    import torch

    from datacheck.torch import Guard, NonFiniteError

    model, optimizer, loss_fn, batch = work()
    guard = Guard(model, optimizer)
    guard.step(loss_fn, batch)
    taken = []
    for _ in range(3):
        begin = time.process_time()
        try:
            guard.step(loss_fn, (batch[0], torch.tensor(float("nan"))))
        except NonFiniteError:
            taken.append(time.process_time() - begin)
    if len(taken) != 3:
        raise AssertionError("a batch with a NaN did not trip the guard")
    steps = sorted(taken)[1] / plain.median
    return Claim("a step that trips, with its diagnosis", steps, target, unit="steps", best=min(taken) / plain.best)


def _memory() -> Section:
    section = Section(
        "guard-memory",
        "peak memory of a step that a guard adds, 10M-parameter transformer",
        [
            "Python's and NumPy's allocations by tracemalloc from the guard's making on, torch's by its profiler over one step."
        ],
    )
    # What is imported at a first use would count.
    _peak("layers")
    plain = _peak(None)
    for watch, target in (("step", 1.0), ("layers", 2.0)):
        section.claims.append(Claim(f'Guard(watch="{watch}")', (_peak(watch) - plain) / 1e6, target, unit="MB"))
    print(render_section(section), flush=True)
    return section


def _peak(watch: str | None) -> float:
    """The most bytes that are held at a time in one step, beyond those of the model and the optimizer."""
    from datacheck.torch import Guard

    model, optimizer, loss_fn, batch = _transformer()
    tracemalloc.start()
    guard = None if watch is None else Guard(model, optimizer, watch=watch)

    def step() -> None:
        if guard is not None:
            guard.step(loss_fn, batch)
            return
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()

    step()
    step()
    _, peak_of_python = tracemalloc.get_traced_memory()
    # The profiler's own events would count.
    tracemalloc.stop()
    optimizer.zero_grad()
    return peak_of_python + _peak_of_torch(step)


def _peak_of_torch(step: Callable[[], Any]) -> float:
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    results = profile.profiler.kineto_results if profile.profiler is not None else None
    if results is None:
        raise RuntimeError("torch's profiler gave no results")
    held = peak = 0
    for event in sorted((event for event in results.events() if event.name() == "[memory]"), key=_start):
        held += event.nbytes()
        peak = max(peak, held)
    return float(peak)


def _start(event: Any) -> int:
    start: int = event.start_ns()
    return start


if __name__ == "__main__":
    print(render_machine(describe_machine()))
    sys.exit(main())
