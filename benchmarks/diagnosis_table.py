"""Who names a planted defect: diagnose, ``torch.autograd.detect_anomaly``, or the first operation that is not finite.

``python -m benchmarks diagnosis_table`` runs every program of ``tests/torch_doors/corpus`` under the three and prints, for each
defect, whether the line that was named is one that is marked in its source, and for each harmless program whether it was
left alone. Then the time that a diagnosis takes, in training steps of a 10-million-parameter transformer.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

ROOT = Path(__file__).parents[1]

#: The line that a tool named, ``None`` where it said nothing.
Named = tuple[str, int] | None
Tool = Callable[[Any], Named]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.diagnosis_table", description=__doc__)
    parser.add_argument("--rows", action="store_true", help="also print a row for each program")
    parser.add_argument("--no-timing", action="store_true", help="leave out the time of a diagnosis")
    asked = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("diagnosis_table: torch is not installed")
        return 0
    sys.path.insert(0, str(ROOT / "tests" / "torch_doors"))
    from corpus import DEFECTS, HARMLESS

    print(
        f"== diagnosis_table: {len(DEFECTS)} planted defects and {len(HARMLESS)} harmless programs; torch {torch.__version__}"
    )
    tools: dict[str, Tool] = {
        "datacheck": _by_datacheck,
        "detect_anomaly": _by_anomaly_mode,
        "first not finite": _by_first_not_finite,
    }
    verdicts: dict[str, Counter[str]] = {name: Counter() for name in tools}
    for program in (*DEFECTS, *HARMLESS):
        row = []
        for name, tool in tools.items():
            verdict = _judge(program, _run(tool, program))
            verdicts[name][verdict] += 1
            row.append(verdict)
        if asked.rows:
            print(f"   {program.name:<60} {'  '.join(f'{verdict:<12}' for verdict in row)}")
    kinds = ("right", "wrong", "silent", "false alarm", "left alone")
    print(f"   {'':<18}{''.join(f'{kind:>13}' for kind in kinds)}")
    for name, counted in verdicts.items():
        print(f"   {name:<18}{''.join(f'{counted[kind]:>13}' for kind in kinds)}")
    right = Counter(_details(program) for program in DEFECTS)
    print(f"   datacheck also names cause, phase and operation: {right[True]} of {len(DEFECTS)} right in all of them")
    if not asked.no_timing:
        _time_diagnosis()
    return 0


def _judge(program: Any, named: Named) -> str:
    if not hasattr(program, "cause"):
        return "left alone" if named is None else "false alarm"
    if named is None:
        return "silent"
    return "right" if Path(named[0]).name == Path(program.filename).name and named[1] in program.lines else "wrong"


def _run(tool: Tool, program: Any) -> Named:
    import torch

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tool(program.build())


def _by_datacheck(step: Any) -> Named:
    from datacheck.torch import diagnose

    diagnosis = diagnose(step.loss_fn, *step.arguments)
    return None if diagnosis is None else (diagnosis.filename or "", diagnosis.lineno or 0)


def _details(program: Any) -> bool:
    import torch

    from datacheck.torch import diagnose
    from datacheck.torch.diagnosis.record import family_of

    torch.manual_seed(0)
    step = program.build()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diagnosis = diagnose(step.loss_fn, *step.arguments)
    if diagnosis is None or (diagnosis.cause, diagnosis.phase) != (program.cause, program.phase):
        return False
    return not program.ops or family_of(diagnosis.op or "") in {op.strip("_") for op in program.ops}


def _by_anomaly_mode(step: Any) -> Named:
    """The last line outside torch in the traceback of the forward call that anomaly mode prints."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with torch.autograd.detect_anomaly(), contextlib.suppress(ValueError):
                loss = step.run()
                if loss.requires_grad:
                    loss.backward()
        except RuntimeError as error:
            if "returned nan values" not in str(error):
                raise
            text = "\n".join(str(warning.message) for warning in caught)
            lines = re.findall(r'File "([^"]+)", line (\d+)', text)
            ours = [(name, int(line)) for name, line in lines if f"{Path(torch.__file__).parent}" not in name]
            return ours[-1] if ours else ("", 0)
    return None


def _by_first_not_finite(step: Any) -> Named:
    """The line of the first operation, forward or backward, with a floating-point output that is not finite."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    here, library = __file__, str(Path(torch.__file__).parent)
    found: list[tuple[str, int]] = []

    class FirstNotFinite(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if not found and any(
                _is_bad(value) for value in (result if isinstance(result, tuple | list) else (result,))
            ):
                frame = sys._getframe(1)
                while frame.f_back and frame.f_code.co_filename.startswith((library, here)):
                    frame = frame.f_back
                found.append((frame.f_code.co_filename, frame.f_lineno))
            return result

    with FirstNotFinite(), contextlib.suppress(ValueError):
        # Distributions refuse NaN: what came before counts.
        loss = step.run()
        if loss.requires_grad:
            loss.backward()
    return found[0] if found else None


def _is_bad(value: Any) -> bool:
    import torch

    if not isinstance(value, torch.Tensor) or not value.dtype.is_floating_point or value.layout is not torch.strided:
        return False
    # A zero that functional transforms stand in for a gradient has no memory: isfinite of it ends the process.
    return not value._is_zerotensor() and not bool(torch.isfinite(value).all())


def _time_diagnosis() -> None:
    import torch
    from torch import nn
    from torch.nn import functional

    class Fault(nn.Module):
        """Makes nothing, a bad value forward, or a bad gradient only."""

        kind = "none"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.kind == "forward":
                return x + torch.log(x.abs() * (torch.arange(x.shape[-1]) > 0))
            if self.kind == "backward":
                return x + torch.sqrt((x * 0).square())
            return x

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(8192, 320)
            layer = nn.TransformerEncoderLayer(320, 8, 1280, dropout=0.0, batch_first=True, norm_first=True)
            self.first = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.fault = Fault()
            self.rest = nn.TransformerEncoder(layer, 5, enable_nested_tensor=False)
            self.head = nn.Linear(320, 8192, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            hidden = self.first(self.embed(tokens) * 0.05)
            return self.head(self.rest(self.fault(hidden)))

    def loss_fn(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional.cross_entropy(model(batch["x"]).flatten(0, 1), batch["y"].flatten())

    from datacheck.torch import diagnose

    torch.manual_seed(0)
    model = Transformer()
    tokens = torch.randint(0, 8192, (16, 128))
    batch = {"x": tokens, "y": tokens.roll(-1, 1)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()

    num_parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    step()
    a_step = statistics.median(_seconds(step) for _ in range(3))
    print(
        f"   a step of a transformer with {num_parameters:.1f} M parameters, 16 x 128, on the CPU: {a_step * 1000:.0f} ms"
    )
    for kind in ("none", "forward", "backward"):
        model.fault.kind = kind
        found: list[Any] = []
        taken = _seconds(lambda found=found: found.append(diagnose(loss_fn, model, batch)))
        said = "nothing" if found[0] is None else f"{found[0].cause} in {found[0].module}"
        print(f"   diagnosis, fault: {kind:<9} {taken / a_step:5.1f} x a step; at most 30 (found {said})")


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
