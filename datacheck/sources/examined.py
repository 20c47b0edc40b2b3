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

    ``values`` are the samples or pixels of one that stores floating-point numbers.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    values: np.ndarray[Any, Any] | None = None
