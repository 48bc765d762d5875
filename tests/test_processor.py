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


def test_the_package_pins_before_it_imports_anything_else() -> None:
    lines = ast.parse((ROOT / "motorec" / "__init__.py").read_text(encoding="utf-8")).body[1:]
    assert [ast.unparse(line) for line in lines[:2]] == ["from motorec.processor import pin", "pin()"]


@pytest.mark.skipif(not has_avx2(), reason="other processors keep their own arithmetic")
def test_a_setting_of_the_reader_s_does_not_change_numbers() -> None:
    script = "import os, motorec; print(os.environ['ATEN_CPU_CAPABILITY'])"
    mine = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    printed = subprocess.run([sys.executable, "-c", script], env=mine, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "avx2"


DIFFER = {"sqrt", "cdist", "cholesky", "cholesky_ex", "log10"}  # as the module says, of torch


def test_nothing_is_computed_by_what_differs_between_makers() -> None:
    """By name, in calls: `tensor ** 0.5` would not be seen. Adam takes roots by `Tensor.sqrt` unless it is fused."""
    found = []
    for file in sorted((ROOT / "motorec").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            fused = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get("fused") == "True"
            if (node.func.attr in DIFFER and of not in ("np", "math")) or (node.func.attr == "Adam" and not fused):
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not found
