"""The same arithmetic on every processor: numbers must come back on a machine that is not ours.

Mathematical libraries ask the processor which instructions it has and sum in the order that suits them, so that last
bits differ between two kinds of x86-64 processors. Training then carries a last bit a long way: where it decides
between two codes of an item, everything after it is another run. Here all libraries are told to use one set of
instructions that every x86-64 processor since about 2015 has, whatever else this one could do.

What remains is what a library computes from the processor's *approximate* instructions (reciprocal, root), which
makers fill as they like. One such function matters here: MKL's square root, behind `Tensor.sqrt`. This package does
without it: Adam is the fused one, which takes roots by itself, and norms and `rsqrt` are torch's own.
"""

from __future__ import annotations

import os
from pathlib import Path

# One set of instructions for each library. All are read when the library is loaded or first used.
PINNED = {
    "MKL_CBWR": "COMPATIBLE",  # products of matrices in torch; the only setting that holds for every maker's processors
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions and linear layers of the encoders
    "OPENBLAS_CORETYPE": "Haswell",  # products and decompositions in NumPy and SciPy
    "NPY_DISABLE_CPU_FEATURES": "X86_V4,AVX512_ICL,AVX512_SPR",  # NumPy's own loops: nothing beyond AVX2
}


def pin() -> None:
    """Tell all mathematical libraries to use one set of instructions; processes started from here inherit it.

    `import motorec` calls it, before any of them is loaded. A script that imports NumPy or torch first comes too late
    for what they have read by then. Where Linux does not say that the processor has these instructions, nothing is
    set, and last bits are its own.
    """
    if has_avx2():
        os.environ.update(PINNED)


def has_avx2() -> bool:
    """Whether Linux says that the processor has AVX2."""
    try:
        return " avx2 " in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # another system
        return False
