"""The same instructions whatever the processor has: numbers come back on another machine."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from motorec.processor import PINNED, has_avx2

ROOT = Path(__file__).parent.parent

LOOK = """
import json
import motorec
import numpy
import scipy.linalg
import torch
from numpy._core._multiarray_umath import __cpu_features__
from threadpoolctl import threadpool_info

print(json.dumps({
    "torch": torch.backends.cpu.get_cpu_capability(),
    "numpy": [group for group in ("X86_V4", "AVX512_ICL", "AVX512_SPR") if __cpu_features__[group]],
    "openblas": sorted({one["architecture"] for one in threadpool_info() if one["internal_api"] == "openblas"}),
}))
"""


@pytest.mark.skipif(not has_avx2(), reason="other processors keep their own arithmetic")
def test_libraries_use_the_pinned_instructions_and_no_others() -> None:
    free = {name: value for name, value in os.environ.items() if name not in PINNED}
    printed = subprocess.run([sys.executable, "-c", LOOK], env=free, capture_output=True, text=True, check=True)
    assert json.loads(printed.stdout) == {"torch": "AVX2", "numpy": [], "openblas": ["Haswell"]}
    assert not printed.stderr


@pytest.mark.skipif(not has_avx2(), reason="other processors keep their own arithmetic")
def test_a_setting_of_the_reader_s_does_not_change_numbers() -> None:
    script = "import os, motorec; print(os.environ['ATEN_CPU_CAPABILITY'])"
    mine = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    printed = subprocess.run([sys.executable, "-c", script], env=mine, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "avx2"


def test_no_root_is_taken_by_what_differs_between_makers() -> None:
    """`Tensor.sqrt` and the Adam that uses it approximate by an instruction that each maker of processors fills."""
    found = []
    for file in sorted((ROOT / "motorec").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            fused = any(keyword.arg == "fused" for keyword in node.keywords)
            if (node.func.attr == "sqrt" and of not in ("np", "math")) or (node.func.attr == "Adam" and not fused):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not found
