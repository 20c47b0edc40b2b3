"""Decompositions whose gradients are finite where eigenvalues or singular values are equal, or 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def safe_eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """``torch.linalg.eigh`` with a finite gradient where eigenvalues are equal: ``(eigenvalues, eigenvectors)``.

    The gradient of the vectors divides by the difference of two eigenvalues; near 0 (within ``sqrt(eps)`` of the largest)
    the quotient is damped to 0. Real matrices only.
    """
    values, vectors = _Eigh.apply(a)  # type: ignore[no-untyped-call]
    return values, vectors


def safe_svd(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``torch.linalg.svd(a, full_matrices=False)`` with a finite gradient at equal or zero singular values.

    Returns ``(U, S, Vh)``. Quotients by differences near 0 are damped as in :func:`safe_eigh`. Real matrices only.
    """
    left, values, right = _Svd.apply(a)  # type: ignore[no-untyped-call]
    return left, values, right


def _damped(differences: Tensor, largest: Tensor) -> Tensor:
    """``1 / differences``, and 0 where they are small against the largest value."""
    room = torch.finfo(differences.dtype).eps * largest.square()
    return differences / (differences.square() + room.clamp(min=torch.finfo(differences.dtype).tiny))


def _largest(values: Tensor) -> Tensor:
    return values.abs().amax(-1)[..., None, None] if values.shape[-1] else values.new_zeros(())


class _Eigh(torch.autograd.Function):
    """``torch.linalg.eigh`` with a damped gradient (Giles 2008, section 3.1)."""

    @staticmethod
    def forward(a: Tensor) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(a)
        return values, vectors

    @staticmethod
    def setup_context(ctx: Any, _inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, of_values: Tensor, of_vectors: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        quotients = _damped(values[..., None, :] - values[..., :, None], _largest(values))
        inner = quotients * (vectors.mT @ of_vectors) + torch.diag_embed(of_values)
        gradient: Tensor = vectors @ inner @ vectors.mT
        return gradient


class _Svd(torch.autograd.Function):
    """``torch.linalg.svd`` with a damped gradient (Giles 2008, section 3.2; Townsend 2016)."""

    @staticmethod
    def forward(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, values, right = torch.linalg.svd(a, full_matrices=False)
        return left, values, right

    @staticmethod
    def setup_context(ctx: Any, _inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx: Any, of_left: Tensor, of_values: Tensor, of_right: Tensor) -> Tensor:
        left, values, right = ctx.saved_tensors
        vectors, of_vectors = right.mT, of_right.mT
        squares = values.square()
        quotients = _damped(squares[..., None, :] - squares[..., :, None], _largest(squares))
        largest = _largest(values)[..., 0]
        room = (torch.finfo(values.dtype).eps * largest).square().clamp(min=torch.finfo(values.dtype).tiny)
        inverse = values / (values.square() + room)
        turned, other = left.mT @ of_left, vectors.mT @ of_vectors
        inner = (
            quotients * (turned - turned.mT) * values[..., None, :]
            + values[..., :, None] * (quotients * (other - other.mT))
            + torch.diag_embed(of_values)
        )
        outside_left = (of_left - left @ turned) * inverse[..., None, :]
        outside_right = (of_vectors - vectors @ other) * inverse[..., None, :]
        gradient: Tensor = left @ inner @ vectors.mT + outside_left @ vectors.mT + left @ outside_right.mT
        return gradient
