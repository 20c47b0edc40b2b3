"""Whose parameters gradients are taken of."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from torch import Tensor

from datacheck.torch.guard.names import NamedParameter
from datacheck.torch.guard.training_state import Training


class ParameterOwners:
    """Finds the optimizers of parameters, and tells copies of all parameters from other tensors."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._thread = threading.get_ident()
        #: The parameters, and the positions of their optimizers by identity.
        self._known: tuple[Sequence[NamedParameter], dict[int, int]] | None = None

    def find(self, inputs: tuple[Tensor, ...]) -> frozenset[int]:
        """The positions of the optimizers whose parameters are among these."""
        parameters = self._training.parameters
        if self._known is None or self._known[0] is not parameters:
            # Gradients may be taken many times in a step, with respect to anything.
            self._known = parameters, {id(parameter.tensor): parameter.optimizer for parameter in parameters}
        owners = self._known[1]
        return frozenset(owners[id(tensor)] for tensor in inputs if id(tensor) in owners)

    def are_copies(self, inputs: tuple[Tensor, ...]) -> bool:
        """Whether these may be copies of all parameters: as many, with the same types and shapes in the same order.

        Tensors of another thread than the guard's belong to another training, and tensors of another type are what a
        compiler traces.
        """
        parameters = self._training.parameters
        if len(inputs) != len(parameters) or threading.get_ident() != self._thread:
            return False
        return all(
            type(one) in (Tensor, type(parameter.tensor)) and one.shape == parameter.tensor.shape
            for one, parameter in zip(inputs, parameters, strict=True)
        )
