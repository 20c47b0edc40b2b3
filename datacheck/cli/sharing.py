"""Who does the work of a command: ``--executor``, and ``--shard`` with ``datacheck merge``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from datacheck.cli.help import OUTPUT, PERFORMANCE
from datacheck.cli.parameters import option

if TYPE_CHECKING:
    from datacheck.jobs.executors.local import ExecutorLike


class ExecutorName(StrEnum):
    """What can run the units of a job."""

    threads = "threads"
    processes = "processes"
    ray = "ray"


ExecutorChoice = Annotated[
    ExecutorName,
    option(
        PERFORMANCE,
        "Where the work runs: in threads or processes of this machine, or on a Ray cluster.",
        "--executor",
        metavar="NAME",
        default=True,
    ),
]
Address = Annotated[
    str | None,
    option(
        PERFORMANCE,
        "Address of the Ray cluster; auto is the one that this machine belongs to.",
        "--address",
        metavar="ADDRESS",
        default="a new one on this machine",
    ),
]
ShardChoice = Annotated[
    str | None,
    option(
        PERFORMANCE,
        "Do only this share of the work, such as 3/8 (the third of eight). 'datacheck merge' combines the results.",
        "--shard",
        metavar="I/N",
    ),
]
Results = Annotated[
    str | None,
    option(
        OUTPUT,
        "Folder for the results of the shards, or of the nodes of a Ray cluster; all must reach it.",
        "--results",
        metavar="FOLDER",
    ),
]

#: The options that a merge, which does no work, lacks.
_OF_WORKERS = ("shard", "executor", "address")
#: Whether the command is one of ``datacheck merge``.
_is_merge: ContextVar[bool] = ContextVar("is_merge", default=False)


def executor_for(
    shard: str | None,
    results: str | None = None,
    executor: ExecutorName = ExecutorName.threads,
    address: str | None = None,
) -> ExecutorLike:
    """What runs the units of a command. Raises ``UsageError``."""
    from datacheck.errors import UsageError

    is_shared = _is_merge.get() or shard is not None
    if results is not None and not is_shared and executor is not ExecutorName.ray:
        raise UsageError("--results is for shards; give --shard, too")
    if address is not None and executor is not ExecutorName.ray:
        raise UsageError("--address is the address of a Ray cluster; give --executor ray, too")
    if is_shared:
        if executor is ExecutorName.ray:
            raise UsageError("--executor ray divides the work itself; leave out --shard")
        from datacheck.jobs.sharding.merge import Merge
        from datacheck.jobs.sharding.shards import Shard

        return Merge(results) if shard is None else Shard.parse(shard, results, executor.value)
    if executor is ExecutorName.ray:
        from datacheck.jobs.executors.ray_cluster import RayExecutor

        return RayExecutor(address, exchange=results, reports_nodes=True)
    return executor.value


def end_of_shard(executor: ExecutorLike) -> None:
    """Raise ``ShardFinished`` in a shard: what it knows of the whole job is for a merge to print."""
    from datacheck.jobs.executors.local import UnitExecutor

    if isinstance(executor, UnitExecutor) and executor.is_shard:
        from datacheck.errors import ShardFinished

        raise ShardFinished(str(executor))


def merging(command: Callable[..., int]) -> Callable[..., int]:
    """The command as one of ``datacheck merge``: without the options about who does the work."""
    # Annotations are read with the names of the command's file, not of this one.
    signature = inspect.signature(command, eval_str=True)
    parameters = [part for part in signature.parameters.values() if part.name not in _OF_WORKERS]

    @functools.wraps(command)
    def merge(*args: Any, **kwargs: Any) -> int:
        token = _is_merge.set(True)
        try:
            return command(*args, **kwargs)
        finally:
            _is_merge.reset(token)

    merge.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    merge.__annotations__ = {part.name: part.annotation for part in parameters}
    return merge
