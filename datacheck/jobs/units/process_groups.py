"""Cleaning units of one file together, where a job has very many. Apart from scanning, which needs no cleaning rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from datacheck.jobs.units.groups import merge_scans
from datacheck.jobs.units.plan import UnitPlan
from datacheck.jobs.units.process import lost_unit, process_unit
from datacheck.jobs.units.result import UnitResult
from datacheck.jobs.units.scan import UnitScan
from datacheck.jobs.units.task import UnitTask
from datacheck.reports.accounts import RepairTotal


def process_group(tasks: Sequence[UnitTask], plan: UnitPlan) -> list[UnitResult]:
    """As :func:`~datacheck.jobs.units.process.process_unit`, for units of one file that follow each other.

    The first result has what was found in all of them; the others say which rows and files each has written. After a unit
    that stops the run there is none.
    """
    results: list[UnitResult] = []
    for task in tasks:
        results.append(process_unit(task, plan))
        if results[-1].failure is not None or results[-1].failed:
            break
    if len(results) == 1:
        return results
    first = results[0]
    first.failure, first.failed = results[-1].failure, results[-1].failed
    first.scan = merge_scans(first.uri, plan.schema, [one.scan for one in results])
    first.repairs = RepairTotal.add(total for one in results for total in one.repairs)
    first.removed_by_code = sum((Counter(one.removed_by_code) for one in results), Counter())
    first.left = sum((Counter(one.left) for one in results), Counter())
    first.left_in = list(dict.fromkeys(pair for one in results for pair in one.left_in))
    for one in results[1:]:
        one.scan, one.failure, one.failed, one.repairs = UnitScan(), None, {}, []
        one.removed_by_code, one.left, one.left_in = {}, {}, []
    return results


def lost_group(tasks: Sequence[UnitTask]) -> list[UnitResult]:
    """The results of units whose worker process died each time they were tried."""
    return list(map(lost_unit, tasks))
