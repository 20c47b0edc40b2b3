"""What stands in a list of samples where one was skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from datacheck.errors import UsageError
from datacheck.torch import _compat

__all__ = ["SkippedSample"]


@dataclass(frozen=True, slots=True)
class SkippedSample:
    """The place of a sample that ``on_bad="skip"`` left out. Only :class:`SafeCollate` knows what to do with it."""

    index: int

    def refusal(self) -> UsageError:
        """The error for whoever takes it for a sample."""
        return UsageError(
            f"sample {self.index} is bad and on_bad='skip' left it out, which only SafeCollate can do to a batch: give the "
            "loader collate_fn=SafeCollate(), or call check() and use compact()"
        )

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise self.refusal()

    # What another collate function would do with a sample ends here, and not in a message about types.
    __len__ = __iter__ = __getitem__ = __float__ = __index__ = __array__ = __torch_function__ = _refuse

    def __repr__(self) -> str:
        return f"SkippedSample({self.index}): give the loader collate_fn=SafeCollate(), or use compact()"


def _refuse_batch(batch: Sequence[Any], **_: Any) -> NoReturn:
    raise batch[0].refusal()


_compat.collate_functions()[SkippedSample] = _refuse_batch
