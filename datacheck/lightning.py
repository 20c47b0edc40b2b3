"""The guard in Lightning and Fabric.

>>> from datacheck.lightning import GuardCallback  # doctest: +SKIP
>>> trainer = Trainer(callbacks=[GuardCallback(on_trip="skip")])  # doctest: +SKIP
"""

from datacheck.torch.integrations.lightning import GuardCallback, guard

__all__ = ["GuardCallback", "guard"]
