"""The placeholder for a skipped sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from datacheck.errors import UsageError
from datacheck.torch import _compat


@dataclass(frozen=True, slots=True)
class SkippedSample:
    """Stands for a sample that ``on_bad="skip"`` left out, until :class:`SafeCollate` removes it."""

    index: int

    def to_error(self) -> UsageError:
        """The error for code that uses it as a sample."""
        return UsageError(
            f"sample {self.index} is bad and on_bad='skip' skipped it, which requires SafeCollate: give the loader "
            "collate_fn=SafeCollate(), or call check() and use compact()"
        )

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise self.to_error()

    # Other collate functions get this error, and not one about types.
    __len__ = __iter__ = __getitem__ = __float__ = __index__ = __array__ = __torch_function__ = _refuse

    def __repr__(self) -> str:
        return f"SkippedSample({self.index}): give the loader collate_fn=SafeCollate(), or use compact()"


def _refuse_batch(batch: Sequence[Any], **_: Any) -> NoReturn:
    raise batch[0].to_error()


_compat.collate_functions()[SkippedSample] = _refuse_batch
