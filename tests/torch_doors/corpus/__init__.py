"""Small training steps with planted defects, and harmless ones full of NaN and infinities."""

import importlib

from .program import DEFECTS, HARMLESS, TRAINING_DEFECTS, Defect, Harmless, Step, Training, TrainingDefect

__all__ = ["DEFECTS", "HARMLESS", "TRAINING_DEFECTS", "Defect", "Harmless", "Step", "Training", "TrainingDefect"]

for _area in (
    *("backward_only", "benign", "data", "half", "harmless", "hidden", "loss_code", "model_code", "reported"),
    *("training_loops", "unfamiliar", "weights"),
):
    importlib.import_module(f"{__name__}.{_area}")
