"""The microscope: replays a step, follows every value that is not finite, and names where it came from."""

from __future__ import annotations

from datacheck.torch.microscope.diagnose import diagnose
from datacheck.torch.microscope.examine import examine

__all__ = ["diagnose", "examine"]
