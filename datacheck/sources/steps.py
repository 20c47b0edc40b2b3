"""Counts what is read, step by step, so that work which takes long is told from work that has stopped."""

from __future__ import annotations

_num_steps = 0


def count_step() -> None:
    """Count a batch that was read, or an array that was found."""
    global _num_steps
    _num_steps += 1


def num_steps() -> int:
    return _num_steps
