"""What every notebook does first, whether run by hand or by the pipeline: the same threads, the same look."""

from __future__ import annotations

import os
import warnings


def setup(threads: int = 1) -> None:
    """Fix what could make two runs differ, and set the look of tables.

    Call it in the first cell, before torch is imported: threads are counted when it is.

    Args:
        threads: How many threads share the arithmetic. Sums are split over them, so their last bits depend on this
            number, and it is fixed whatever the machine has. One is as fast as two for the matrices of a training;
            encoders gain from two.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    import pandas as pd
    import torch
    from IPython import get_ipython

    # A library asks for notebook widgets; progress is plain text here.
    warnings.filterwarnings("ignore", message="IProgress not found")
    torch.set_num_threads(threads)
    pd.set_option("display.precision", 4, "display.max_columns", 30)
    shell = get_ipython()
    if shell is not None:
        shell.run_line_magic("matplotlib", "inline")
        shell.run_line_magic("config", "InlineBackend.figure_formats = ['retina']")  # twice the dots, for dense screens
        # Metadata of a picture would tell matplotlib's version.
        shell.run_line_magic(
            "config", "InlineBackend.print_figure_kwargs = {'metadata': {'Software': None}, 'bbox_inches': 'tight'}"
        )
