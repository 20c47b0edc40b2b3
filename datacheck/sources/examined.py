"""What is known of one image or recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: A larger image or recording is not decoded.
MAX_DECODED_BYTES = 256 << 20


@dataclass(slots=True)
class Examined:
    """Facts by name, and faults as (code, detail).

    ``lists`` has several numbers of one: its samples or pixels (``values``), if it stores floating-point numbers, and the
    different pixels (``distinct``) of an image that may be a mask.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    lists: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
