"""The settings of a guard, checked before training starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from datacheck.errors import UsageError, nearest_name
from datacheck.schema.loading import SchemaLike

Watch = Literal["step", "layers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """The settings of a guard, checked; :class:`~datacheck.torch.Guard` takes them as keyword arguments and explains them."""

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
    skip_bad_batches: bool = False
    run_dir: Path | str | None = None
    log_every_n_steps: int = 10
    step_name: str = "datacheck/step"
    defer: bool | None = None

    def __post_init__(self) -> None:
        if self.watch not in get_args(Watch):
            known = " or ".join(map(repr, get_args(Watch)))
            nearest = nearest_name(str(self.watch), get_args(Watch))
            raise UsageError(f"watch={self.watch!r}: expected {known}{nearest}")
        for name in ("every_n_steps", "accumulation_steps", "warmup_steps", "history_length", "log_every_n_steps"):
            _require(name, getattr(self, name), lambda value: value >= 1, "an integer of at least 1", int)
        for name in ("max_skips", "max_diagnoses"):
            _require(name, getattr(self, name), lambda value: value >= 0, "an integer of at least 0", int)
        for name in ("max_grad_norm", "loss_spike", "grad_spike", "min_loss_scale"):
            if getattr(self, name) is not None:
                _require(name, getattr(self, name), lambda value: value > 0, "a number above 0", (int, float))
        if self.defer is not None and not isinstance(self.defer, bool):
            raise UsageError(f"defer={self.defer!r}: expected True, False or None")
        for name in ("synchronize", "skip_bad_batches"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name}={getattr(self, name)!r}: expected True or False")
        for name in ("bundle_dir", "run_dir"):
            if not isinstance(getattr(self, name), (str, Path, type(None))):
                raise UsageError(f"{name}={getattr(self, name)!r}: expected the path of a folder, or None")
        if not isinstance(self.step_name, str) or not self.step_name:
            raise UsageError(f"step_name={self.step_name!r}: expected the name of the step among the logged numbers")


def _require(
    name: str, value: object, test: Callable[[float], bool], wanted: str, kinds: type | tuple[type, ...]
) -> None:
    if isinstance(value, bool) or not isinstance(value, kinds) or not test(value):  # type: ignore[arg-type]
        raise UsageError(f"{name}={value!r}: expected {wanted}")
