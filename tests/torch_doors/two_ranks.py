"""Programs that two ranks run together; started by the test as ``python two_ranks.py RANK STORE OUTPUT``."""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from datacheck.torch import Guard, NonFiniteError
from datacheck.torch.guard.actions import Clip, Rollback

Batch = tuple[torch.Tensor, torch.Tensor]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(4, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.into(x).tanh())


def mean_squares(model: nn.Module, batch: Batch) -> torch.Tensor:
    return ((model(batch[0]) - batch[1]) ** 2).mean()


def root_of_zero(model: nn.Module, batch: Batch) -> torch.Tensor:
    """A finite loss whose gradient is not, on rank 1 only."""
    output = model(batch[0])
    return mean_squares(model, batch) + ((output * float(dist.get_rank() == 0)) ** 2).sum().sqrt()


def with_a_collective(model: nn.Module, batch: Batch) -> torch.Tensor:
    """A loss that all ranks compute together."""
    loss = mean_squares(model, batch)
    count = torch.ones(())
    dist.all_reduce(count)
    return loss / count


def bad_on_one_rank(model: nn.Module, batch: Batch) -> torch.Tensor:
    """A loss that is NaN on rank 1 in the bad step, and whose gradients are finite everywhere."""
    is_bad = bool(batch[0].isnan().any())
    loss = mean_squares(model, (batch[0].nan_to_num(), batch[1]))
    return loss + (float("nan") if is_bad else 0.0)


def make(kind: str) -> nn.Module:
    torch.manual_seed(0)
    model: Any = Net()
    if kind == "ddp":
        return DistributedDataParallel(model)
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model.into, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model  # type: ignore[no-any-return]


def batches(number: int, bad_at: int = -1) -> Iterator[Batch]:
    rank = dist.get_rank()
    generator = torch.Generator().manual_seed(10 + rank)
    for position in range(number):
        x, y = torch.randn(3, 4, generator=generator), torch.randn(3, 2, generator=generator)
        if position == bad_at and rank == 1:
            x[2, 0] = float("nan")
        yield x, y


def weights(model: nn.Module) -> list[list[float]]:
    tensors = [parameter.detach() for parameter in model.parameters()]
    whole = [tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor for tensor in tensors]
    return [tensor.flatten().tolist() for tensor in whole]


def train(
    kind: str,
    mode: str,
    *,
    bad_at: int = -1,
    leave_out: int = -1,
    loss_fn: Any = mean_squares,
    fused: bool = False,
    **options: Any,
) -> dict[str, Any]:
    model = make(kind)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, fused=fused)
    guard = None if mode == "plain" else Guard(model, optimizer, **options)
    raised = None
    step = 0
    try:
        for step, batch in enumerate(batches(5, bad_at)):
            if step == leave_out:
                continue
            if mode == "step" and guard is not None:
                guard.step(loss_fn, batch)
                continue
            optimizer.zero_grad()
            if mode == "scaled loop" and guard is not None:
                guard.backward(loss_fn(model, batch))
                options["scaler"].step(optimizer)
                options["scaler"].update()
                continue
            loss_fn(model, batch).backward()
            optimizer.step()
    except NonFiniteError as error:
        raised = error.diagnosis.to_dict()
    findings = [] if guard is None else [finding.to_dict() for finding in guard.report().findings]
    norm = None if guard is None else guard.history.gradient_norms[0]
    return {"weights": weights(model), "raised": raised, "step": step, "findings": findings, "norm": norm}


def global_norm(kind: str) -> dict[str, Any]:
    model = make(kind)
    mean_squares(model, next(batches(1))).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    whole = [g.full_tensor() if hasattr(g, "full_tensor") else g for g in gradients if g is not None]
    return {"norm": float(torch.cat([g.flatten() for g in whole]).norm())}


def answer_of_rank(_: Any) -> str:
    return "make" if dist.get_rank() == 0 else "skip"


PROGRAMS: dict[str, Callable[[str], dict[str, Any]]] = {
    "plain": lambda kind: train(kind, "plain"),
    "plain without the bad step": lambda kind: train(kind, "plain", leave_out=3),
    "norm": global_norm,
    "step": lambda kind: train(kind, "step", every_n_steps=1),
    "layers": lambda kind: train(kind, "step", watch="layers"),
    "loop": lambda kind: train(kind, "loop"),
    "raise": lambda kind: train(kind, "step", bad_at=3),
    "raise with a collective": lambda kind: train(kind, "step", bad_at=3, loss_fn=with_a_collective),
    "raise with a collective in a loop": lambda kind: train(kind, "loop", bad_at=3, loss_fn=with_a_collective),
    "raise in a loop": lambda kind: train(kind, "loop", bad_at=3),
    "raise in backward": lambda kind: train(kind, "step", loss_fn=root_of_zero),
    "skip": lambda kind: train(kind, "step", bad_at=3, on_trip="skip"),
    "skip in a loop": lambda kind: train(kind, "loop", bad_at=3, on_trip="skip"),
    "skip in a loop under a scaler": lambda kind: train(
        kind, "scaled loop", bad_at=3, on_trip="skip", scaler=torch.amp.GradScaler("cpu", init_scale=1.0)
    ),
    "fused": lambda kind: train(kind, "plain", fused=True),
    "fused without the bad step": lambda kind: train(kind, "plain", leave_out=3, fused=True),
    "deferred": lambda kind: train(kind, "loop", fused=True, defer=True if kind == "ddp" else None),
    "deferred skip": lambda kind: train(
        kind, "loop", bad_at=3, on_trip="skip", fused=True, defer=True if kind == "ddp" else None
    ),
    "deferred loss": lambda kind: train(
        kind, "loop", bad_at=3, loss_fn=bad_on_one_rank, fused=True, defer=True if kind == "ddp" else None
    ),
    "clip": lambda kind: train(kind, "step", bad_at=3, on_trip=(Clip(0.1), "raise")),
    "rollback": lambda kind: train(kind, "step", bad_at=3, on_trip=Rollback(every_n_steps=3)),
    "function": lambda kind: train(kind, "step", bad_at=3, on_trip=answer_of_rank),
}


def main(rank: int, store: str, output: str) -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", module="torch")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    results = {}
    for kind in ("ddp", "fsdp"):
        for name, program in PROGRAMS.items():
            results[f"{kind}: {name}"] = program(kind)
            gc.collect()
            dist.barrier()
    Path(output).write_text(json.dumps(results), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
    # After the interpreter is gone, torch now and then aborts on threads of its own that still run ("terminate called
    # without an active exception"). All there is to test is written by now.
    os._exit(0)
