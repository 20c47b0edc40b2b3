"""Draw the sample that replaces a bad one: the same for any number of workers and ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence


def candidates(seed: int, epoch: int, index: int, pool: int | Sequence[int], attempts: int) -> Iterator[int]:
    """The indices to try instead of ``index``, in order, without duplicates: drawn at random, 64 times ``attempts`` at most.

    ``pool`` is the length of the dataset, or the indices to draw from. Each draw depends only on the seed, the epoch, the
    index and the number of the draw; the random generators of NumPy, torch and Python are not used. Of a pool that is not
    larger than the number of draws all others follow, the neighbours of the index last: they are often bad, too.
    """
    others = range(pool) if isinstance(pool, int) else pool
    num_draws = 64 * attempts if len(others) else 0
    neighbours = {index - 1, index + 1}
    taken = {index, *neighbours}
    for number in range(num_draws):
        chosen = int(others[_draw(seed, epoch, index, number) % len(others)])
        if chosen not in taken:
            taken.add(chosen)
            yield chosen
    if len(others) <= num_draws:
        known = set(map(int, others))
        yield from sorted(known - taken)
        yield from sorted(known & neighbours)


def _draw(seed: int, epoch: int, index: int, attempt: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}/{attempt}".encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
