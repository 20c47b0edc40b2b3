"""The guard in fastai.

>>> from datacheck.fastai import GuardCallback  # doctest: +SKIP
"""

from datacheck.torch.integrations.fastai import GuardCallback

__all__ = ["GuardCallback"]
