"""Tune models on validation, or write the tuned settings into params/models/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from motorec.errors import MotorecError
from motorec.notebook import setup
from motorec.sidebyside import jobs


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m motorec.tuning", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("models", nargs="*", metavar="model", help="none named: all of params/tune.yaml")
    parser.add_argument("--jobs", type=jobs, help="run the studies as stages of tuning/dvc.yaml, so many at a time")
    parser.add_argument("--apply", action="store_true", help="write the best settings into the models' params files")
    words = parser.parse_intermixed_args(arguments)  # options may stand between the names
    setup()  # before anything that brings torch
    from motorec.reporting import tuning as table
    from motorec.tuning import batch, choice, study

    try:
        if words.apply:
            for line in choice.apply(words.dataset, words.models):
                print(line)
        elif words.jobs or not words.models:
            return batch.run(words.dataset, words.models, words.jobs or 1)
        else:
            for model in words.models:
                study.tune(words.dataset, model)
                table.write(words.dataset)
    except MotorecError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; the same command continues.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
