"""Reporting: tables and figures from what the runs left behind."""

from motorec.reporting.report import Report, report

__all__ = ["Report", "report"]
