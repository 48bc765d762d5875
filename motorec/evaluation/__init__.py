"""Evaluation: full ranking, metrics of each user, cold and warm targets, paired tests between models."""

from motorec.evaluation.evaluate import Evaluation, Score, evaluate, judge, validate
from motorec.evaluation.significance import compare

__all__ = ["Evaluation", "Score", "compare", "evaluate", "judge", "validate"]
