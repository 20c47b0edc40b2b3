"""Small training steps with planted defects, and harmless ones full of NaN and infinities."""

from . import backward_only, data, half, harmless, loss_code, model_code, weights
from .program import DEFECTS, HARMLESS, Defect, Harmless, Step

__all__ = ["DEFECTS", "HARMLESS", "Defect", "Harmless", "Step"]

_AREAS = (backward_only, data, half, harmless, loss_code, model_code, weights)
