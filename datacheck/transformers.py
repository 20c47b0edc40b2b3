"""The guard in the Trainer of Transformers, and in the trainers of trl.

>>> import datacheck
>>> datacheck.transformers.guard(trainer, on_trip="skip")  # doctest: +SKIP
>>> trainer.train()  # doctest: +SKIP
"""

from datacheck.torch.integrations.transformers import TrainerGuard, guard

__all__ = ["TrainerGuard", "guard"]
