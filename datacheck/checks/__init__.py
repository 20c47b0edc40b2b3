"""The checks: one family of codes a file, run together by :class:`~datacheck.checks.checker.Checker`."""

from datacheck.checks.base import Outcome, RowCheck
from datacheck.checks.checker import Checker, RuleSet

__all__ = ["Checker", "Outcome", "RowCheck", "RuleSet"]
