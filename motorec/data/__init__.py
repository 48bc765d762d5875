"""Data sets: one reader per source, checks of what comes in, split protocols."""

from motorec.data.dataset import SPLITS, Dataset, Split
from motorec.data.inter import published_features
from motorec.data.prepare import check_source, make_source, prepare

__all__ = ["SPLITS", "Dataset", "Split", "check_source", "make_source", "prepare", "published_features", "raw_folder"]
