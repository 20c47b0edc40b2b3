"""What a guard can be told, checked before training starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from datacheck.errors import UsageError, nearest_name
from datacheck.schema.loading import SchemaLike

__all__ = ["GuardConfig", "Watch"]

Watch = Literal["step", "layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """The numbers of a guard. :class:`~datacheck.torch.Guard` takes them as keyword arguments.

    Attributes:
        watch: ``"step"`` looks at the loss and the gradients; ``"layers"`` also at every module's output and the
            gradient with respect to it.
        every_n_steps: updates between two looks at parameters, buffers and optimizer state. The first ten updates are
            all looked at, since a bad epsilon or initial value shows there.
        accumulation_steps: calls of ``step`` to one update. Each loss is divided by it.
        max_grad_norm: clip the gradient norm of every step to this, as ``torch.nn.utils.clip_grad_norm_`` does; None
            for no clipping. For ``step`` only: a loop of your own clips by itself.
        loss_spike: how many median absolute deviations (in units of a standard deviation) above the median of the last
            128 steps a loss trips the guard; None for never. 10 is a cautious value.
        grad_spike: the same for the gradient norm.
        warmup_steps: finite steps to see before a spike is called one.
        max_skips: skipped updates in a row before the guard raises.
        min_loss_scale: a GradScaler's scale below which it counts as collapsed.
        max_diagnoses: trips that are replayed and explained where ``on_trip`` goes on with training: each costs up to 30
            steps. The trip that raises is always explained.
        history_length: steps that the history keeps.
        schema: what the batch must be, in any form that ``datacheck.load_schema`` takes; None for no schema. Samples to
            blame that break it make the trip a fault of the data.
        bundle_dir: where to write what replays a trip; None for nowhere.
        synchronize: whether ranks of ``torch.distributed``, where it is in use, decide together.
    """

    watch: Watch = "step"
    every_n_steps: int = 10
    accumulation_steps: int = 1
    max_grad_norm: float | None = None
    loss_spike: float | None = None
    grad_spike: float | None = None
    warmup_steps: int = 20
    max_skips: int = 10
    min_loss_scale: float = 1.0
    max_diagnoses: int = 3
    history_length: int = 512
    schema: SchemaLike = None
    bundle_dir: Path | str | None = None
    synchronize: bool = True

    def __post_init__(self) -> None:
        if self.watch not in get_args(Watch):
            known = " or ".join(map(repr, get_args(Watch)))
            raise UsageError(f"watch={self.watch!r}: it is {known}{nearest_name(str(self.watch), get_args(Watch))}")
        for name in ("every_n_steps", "accumulation_steps", "warmup_steps", "history_length"):
            _require(name, getattr(self, name), lambda value: value >= 1, "a whole number of at least 1", int)
        for name in ("max_skips", "max_diagnoses"):
            _require(name, getattr(self, name), lambda value: value >= 0, "a whole number of at least 0", int)
        for name in ("max_grad_norm", "loss_spike", "grad_spike", "min_loss_scale"):
            if getattr(self, name) is not None:
                _require(name, getattr(self, name), lambda value: value > 0, "a number above 0", (int, float))
        if not isinstance(self.synchronize, bool):
            raise UsageError(f"synchronize={self.synchronize!r}: it must be True or False")
        if not isinstance(self.bundle_dir, (str, Path, type(None))):
            raise UsageError(f"bundle_dir={self.bundle_dir!r}: it must be the path of a folder, or None")


def _require(
    name: str, value: object, test: Callable[[float], bool], wanted: str, kinds: type | tuple[type, ...]
) -> None:
    if isinstance(value, bool) or not isinstance(value, kinds) or not test(value):  # type: ignore[arg-type]
        raise UsageError(f"{name}={value!r}: it must be {wanted}")
