"""What a guard adds to a step on an accelerator: operations, and how often the host waits. Counted, so the CPU will do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.results import Claim, Section

if TYPE_CHECKING:
    from torch import nn

__all__ = ["VIEWS", "WAITS", "count_operations", "device_section"]

#: Operations for which the host waits until the device has a value.
WAITS = ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero")
#: Operations that launch no kernel.
VIEWS = ("alias", "as_strided", "detach", "expand", "permute", "reshape", "select", "squeeze", "t", "unsqueeze", "view")


def count_operations(*, guarded: bool, num_steps: int = 24) -> Counter[str]:
    """The operations of one late training step of a small model with a fused optimizer, by name."""
    import torch
    from torch import nn
    from torch.utils._python_dispatch import TorchDispatchMode

    from datacheck.torch import Guard

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found[func.overloadpacket.__name__] += 1
            return func(*args, **(kwargs or {}))

    found: Counter[str] = Counter()
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    guard = Guard(model, optimizer, defer=True, every_n_steps=1000) if guarded else None

    def step() -> None:
        optimizer.zero_grad()
        model(torch.ones(3, 4)).square().mean().backward()
        optimizer.step()

    for _ in range(num_steps):
        step()
    with Count():
        step()
    if guard is not None:
        guard.remove()
    return found


def device_section() -> Section:
    """Operations and waits that a guard adds to one step, however large the model is."""
    added = count_operations(guarded=True) - count_operations(guarded=False)
    waits = sum(added[name] for name in WAITS)
    kernels = sum(number for name, number in added.items() if name not in (*VIEWS, *WAITS))
    notes = [
        "Counted on the CPU with the numbers read one step later (defer=True), as on an accelerator with a fused optimizer."
    ]
    return Section(
        "guard-device",
        "what a guard adds to a step whose numbers stay on the device",
        notes,
        claims=[
            Claim("times that the host waits", waits, 0.0, unit="a step"),
            Claim("operations that launch kernels", kernels, 30.0, unit="a step"),
        ],
    )
