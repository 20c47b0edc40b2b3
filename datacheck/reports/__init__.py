"""Reports: one output format a file."""

from datacheck.reports.report import Report

__all__ = ["Report"]
