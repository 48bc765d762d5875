"""Vary a model's settings one at a time and judge it on validation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from motorec.errors import MotorecError
from motorec.notebook import setup
from motorec.sidebyside import jobs


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m motorec.sensitivity", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("parameters", nargs="*", metavar="parameter", help="none named: all of params/sensitivity.yaml")
    parser.add_argument(
        "--jobs", type=jobs, help="run the parameters as stages of sensitivity/dvc.yaml, so many at a time"
    )
    words = parser.parse_intermixed_args(arguments)  # options may stand between the names
    setup()  # before anything that brings torch
    from motorec.sensitivity import batch, study

    try:
        if words.jobs or not words.parameters:
            return batch.run(words.dataset, words.parameters, words.jobs or 1)
        for parameter in words.parameters:
            study.vary(words.dataset, parameter)
    except MotorecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; the same command continues.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
