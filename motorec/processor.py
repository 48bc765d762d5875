"""The same arithmetic on every processor: numbers must come back on a machine that is not ours.

Mathematical libraries ask the processor which instructions it has and sum in the order that suits them, so that last
bits differ between two kinds of x86-64 processors. Training then carries a last bit a long way: where it decides
between two codes of an item, everything after it is another run. Here all libraries are told to use one set of
instructions, AVX2, that nearly all x86-64 processors since about 2015 have (not the smallest Celerons and Atoms),
whatever else this one could do.

What remains is what MKL computes from the processor's *approximate* instructions (reciprocal, root), which makers fill
as they like: square roots (`Tensor.sqrt`, `tensor ** 0.5`, `torch.cdist`), `log` in double and `log10` in single
precision, and the Cholesky factor. This package does without them: Adam is the fused one, which takes roots by itself,
`rsqrt` and norms are torch's own, and linear systems are SciPy's.
"""

from __future__ import annotations

import os
from pathlib import Path

# One set of instructions for each library. All are read when the library is loaded or first used.
PINNED = {
    # MKL, in torch: products of matrices, exp, tanh, erf. Its other settings hold for Intel's processors alone.
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions and linear layers of the encoders
    "OPENBLAS_CORETYPE": "Haswell",  # products and decompositions in NumPy and SciPy,
    "OPENBLAS_L2_SIZE": "512",  # in blocks that do not go by this processor's cache (KiB)
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",  # NumPy's own loops: nothing beyond AVX2
}


def pin() -> None:
    """Tell all mathematical libraries to use one set of instructions; processes started from here inherit it.

    `import motorec` calls it, before any of them is loaded. Whoever imports NumPy or torch first, a script or MLflow
    that loads a model, comes too late for what they have read by then. Where Linux does not say that the processor has
    these instructions, nothing is set, and last bits are its own.
    """
    if has_avx2():
        os.environ.update(PINNED)


def has_avx2() -> bool:
    """Whether Linux says that the processor has AVX2."""
    try:
        return "avx2" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:  # another system
        return False
