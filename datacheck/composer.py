"""The guard in Composer.

>>> from datacheck.composer import GuardCallback  # doctest: +SKIP
"""

from datacheck.torch.integrations.composer import GuardCallback

__all__ = ["GuardCallback"]
