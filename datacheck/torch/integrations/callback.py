"""What the guard callbacks of all trainers have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from datacheck.errors import UsageError
from datacheck.torch.guard.guard import Guard
from datacheck.torch.guard.log import GuardReport
from datacheck.torch.integrations.options import check_options
from datacheck.torch.loader.dataset import SafeDataset

#: Attributes under which loaders and datasets keep the dataset that they wrap.
_INNER = ("dataset", "datasets", "base_dataloader", "dataloader", "iterables", "loaders", "flattened")
MAX_DEPTH = 8


class GuardHolder:
    """Makes the guard when training starts, and keeps it with its state and the losses of the current step.

    A base beside the trainer's own ``Callback``: :meth:`_prepare` takes the place of ``__init__``.
    """

    _guard: Guard | None
    _state: Mapping[str, Any] | None

    def _prepare(self, options: Mapping[str, Any], *allowed: str) -> None:
        """Check the options of the guard, before training starts."""
        check_options(options, *allowed)
        self._options = options
        self._guard = self._state = None
        #: The losses since the last update.
        self._losses: list[Tensor] = []

    @property
    def guard(self) -> Guard:
        """The guard, which exists from when training starts. Raises :class:`~datacheck.errors.UsageError` before."""
        if self._guard is None:
            raise UsageError("GuardCallback: there is a guard only once training has started")
        return self._guard

    def report(self) -> GuardReport:
        """Every anomaly and every action of this run."""
        return self.guard.report()

    def _start(self, model: Any, optimizers: Any, *, scaler: Any, scheduler: Any = None, **defaults: Any) -> None:
        """Recreate the guard, with what was loaded from a checkpoint. Training that ended by an error may have left one."""
        if self._guard is not None:
            self._guard.remove()
        options = {"scheduler": scheduler or None, **defaults, **self._options}
        self._guard = Guard(model, optimizers, scaler=scaler, **options)
        if self._state:
            self._guard.load_state_dict(self._state)
        self._losses.clear()

    def _take_losses(self) -> list[Tensor] | None:
        losses, self._losses = self._losses, []
        return losses or None

    def _set_epoch(self, loader: Any, epoch: int) -> None:
        for dataset in safe_datasets_in(loader):
            dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._guard is None else self._guard.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._state = state or None


def safe_datasets_in(loader: Any) -> list[SafeDataset[Any]]:
    """Every SafeDataset in a loader, or in a collection of loaders, each once."""
    return list({id(found): found for found in _find(loader, 0)}.values())


def _find(value: Any, depth: int) -> Iterator[SafeDataset[Any]]:
    if isinstance(value, SafeDataset):
        yield value
    elif depth < MAX_DEPTH:
        for part in _parts(value):
            yield from _find(part, depth + 1)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    own = getattr(value, "__dict__", {})
    return [
        getattr(value, name) for name in _INNER if name in own or isinstance(getattr(type(value), name, None), property)
    ]
