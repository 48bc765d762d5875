"""Data sets: one reader per source, checks of what comes in, split protocols."""

from motorec.data.dataset import SPLITS, Dataset, Split
from motorec.data.prepare import make_source, prepare

__all__ = ["SPLITS", "Dataset", "Split", "make_source", "prepare"]
