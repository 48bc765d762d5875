"""The errors that a user can cause, each saying where it is wrong, what was expected and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MotorecError(Exception):
    """Base of every error that is the input's fault and not the program's."""


class ParamsError(MotorecError):
    """A file in `params/`, or a parameter of a notebook, names or holds something that does not exist."""


class DataError(MotorecError):
    """A data set cannot be read as it is: a missing file, a bad row, an item that nobody described."""


class Unsuited(DataError):
    """A data set is not for a model, which is left out of its tables, with this reason."""


class MissingContent(Unsuited):
    """The items lack texts or pictures that a model cannot do without."""


class TooLarge(Unsuited):
    """A model would need more memory than its settings allow."""


class LeftOut(MotorecError):
    """Ends a notebook early and well: its model is left out of the tables, and a file says why."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the reason alone."""
        return [f"Left out: {self}"]


def nearest(word: str, known: Iterable[str]) -> str:
    """Name the known word that `word` was probably meant to be.

    Returns:
        A sentence such as ``Did you mean 'gamma'?``, or the sorted list of known words where none is close.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return "Known here: " + (", ".join(names) or "nothing") + "."
