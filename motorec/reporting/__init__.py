"""Reporting: tables and figures from what the runs left behind; start at `motorec.reporting.report`."""
