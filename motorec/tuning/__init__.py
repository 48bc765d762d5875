"""Tuning: the same number of seeded trials for every model, judged on validation alone; the test split is never read.

`study` runs one model's trials, `batch` all models' side by side, `choice` writes the best settings into `params/`.
"""
