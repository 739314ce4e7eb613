"""What an import costs: nothing heavy is loaded before it is used. In fresh processes, without a clock."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "torch", "torchvision", "open_clip", "timm", "safetensors", "triton", "scipy", "sklearn", "pandas",
    "polars", "pyod", "matplotlib", "umap", "PIL", "jinja2", "rich", "typer", "fsspec", "huggingface_hub",
    "ml_dtypes",
}  # fmt: skip
ARROW = {"pyarrow"}


def loaded(code: str) -> set[str]:
    """Modules after `code`, but for those that NumPy alone brings."""
    told = f"import sys, numpy\nbefore = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-P", "-c", told], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_clipscan_loads_a_handful_of_modules_of_the_standard_library() -> None:
    found = loaded("import clipscan")
    assert {one for one in found if one.startswith("clipscan")} == {"clipscan", "clipscan.errors"}
    third = {one.partition(".")[0] for one in found} - set(sys.stdlib_module_names) - {"clipscan"}
    assert third == set()


@pytest.mark.parametrize(
    ("code", "none_of"),
    [
        ("clipscan.knn", HEAVY | ARROW),
        ("clipscan.score", HEAVY | ARROW),
        ("clipscan.score(numpy.random.rand(60, 4), method='dao', k=3)", HEAVY | ARROW),
        ("clipscan.knn(numpy.random.rand(60, 4), k=3)", HEAVY | ARROW),
        ("clipscan.DropList", HEAVY - {"fsspec"}),
        ("clipscan.partition", HEAVY | ARROW),
    ],
)
def test_a_name_loads_what_it_needs(code: str, none_of: set[str]) -> None:
    assert not loaded(f"import clipscan\n{code}") & none_of
