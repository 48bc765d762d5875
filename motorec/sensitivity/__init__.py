"""Sensitivity: one setting at a time is varied and judged on validation alone; the test split is never read.

`study` makes the runs of one parameter, `batch` those of all parameters side by side.
"""
