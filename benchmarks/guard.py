"""What a guard costs: a training step with it, beside no guard, anomaly mode and hooks that call ``isfinite``.

``python -m benchmarks guard`` times them in turns, step by step, so that whatever else the machine does falls on all of
them alike, and prints ratios to a step without a guard. ``--quick`` takes few steps.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

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
        _race(
            "guard-transformer",
            "10M-parameter transformer, AdamW, batch of 16 x 128",
            _transformer,
            (1.02, 1.06),
            asked.quick,
        ),
        _race(
            "guard-mlp",
            "2-layer MLP of width 64, AdamW, batch of 32 (bound by overhead)",
            _mlp,
            (1.25, 2.0),
            asked.quick,
        ),
        _memory(),
    ]
    print(render_summary(sections))
    return 0


def _transformer() -> tuple[Any, Any, Any, Any]:
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
    batch = (torch.randint(0, words, (16, 128)), torch.ones(()))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4), loss_fn, batch


def _mlp() -> tuple[Any, Any, Any, Any]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))

    def loss_fn(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[0]) * batch[1]

    return model, torch.optim.AdamW(model.parameters(), lr=1e-4), loss_fn, (torch.randn(32, 64), torch.ones(()))


def _race(name: str, title: str, work: Work, targets: tuple[float, float], quick: bool) -> Section:
    section = Section(name, title, ["Contenders take turns in changing order, one step each; ratios are of medians."])
    runs = _contenders(work)
    # A guard looks at everything after each of the first ten updates, and at every tenth from then on.
    for run_name in (STEP, LOOP, LAYERS):
        for _ in range(1 if quick else 10):
            runs[run_name]()
    started = time.perf_counter()
    for _ in range(2):
        for run in runs.values():
            run()
    # As many steps as take about a minute and a half, at least 9 of each contender.
    taken = (time.perf_counter() - started) / 2
    rounds = 3 if quick else max(11, min(4000, int(80 / taken)))
    seconds: dict[str, list[float]] = {run_name: [] for run_name in runs}
    turns = list(runs.items())
    for _ in range(rounds):
        # In a fixed order each would find in the caches what the same one had left there.
        random.Random(len(seconds[PLAIN])).shuffle(turns)
        for run_name, run in turns:
            begin = time.perf_counter()
            run()
            seconds[run_name].append(time.perf_counter() - begin)
    timings = {run_name: Timing(run_name, tuple(values)) for run_name, values in seconds.items()}
    section.add_timings(timings.values())
    plain = timings[PLAIN]
    goals: dict[str, float] = {STEP: targets[0], LOOP: targets[0], LAYERS: targets[1]}
    section.claims = [
        time_ratio(run_name, timings[run_name], plain, goals.get(run_name)) for run_name in runs if run_name != PLAIN
    ]
    section.claims.append(_diagnosis(work, plain, 30.0 if work is _transformer else None))
    print(render_section(section), flush=True)
    return section


def _contenders(work: Work) -> dict[str, Callable[[], Any]]:
    from datacheck.torch import Guard

    def plain(model: Any, optimizer: Any, loss_fn: Any, batch: Any) -> Callable[[], Any]:
        def step() -> None:
            optimizer.zero_grad()
            loss = loss_fn(model, batch)
            loss.backward()
            optimizer.step()

        return step

    def guarded(watch: str) -> Callable[[], Any]:
        model, optimizer, loss_fn, batch = work()
        guard = Guard(model, optimizer, watch=watch)
        return lambda: guard.step(loss_fn, batch)

    def wrapped() -> Callable[[], Any]:
        parts = work()
        Guard(parts[0], parts[1])
        return plain(*parts)

    runs = {PLAIN: plain(*work()), STEP: guarded("step"), LOOP: wrapped(), LAYERS: guarded("layers")}
    runs["hooks that call isfinite"] = _isfinite_hooks(plain, work())
    runs["detect_anomaly"] = _anomaly(plain(*work()))
    underflow = _debug_underflow_overflow(plain, work)
    if underflow is not None:
        runs["transformers DebugUnderflowOverflow"] = underflow
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


def _debug_underflow_overflow(plain: Callable[..., Any], work: Work) -> Callable[[], Any] | None:
    try:
        from transformers.debug_utils import DebugUnderflowOverflow
    except ImportError:
        print("transformers is not installed: DebugUnderflowOverflow is left out\n")
        return None
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
        begin = time.perf_counter()
        try:
            guard.step(loss_fn, (batch[0], torch.tensor(float("nan"))))
        except NonFiniteError:
            taken.append(time.perf_counter() - begin)
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
