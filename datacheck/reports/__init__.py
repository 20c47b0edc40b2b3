"""Reports, and one file for each output format."""

from datacheck.reports.report import Report

__all__ = ["Report"]
