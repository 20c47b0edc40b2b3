"""The guard in Accelerate.

>>> import datacheck
>>> guard = datacheck.accelerate.guard(accelerator, model, optimizer)  # doctest: +SKIP
"""

from datacheck.torch.integrations.accelerate import guard

__all__ = ["guard"]
