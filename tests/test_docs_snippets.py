"""Every Python block of README.md and docs/ runs as it stands, on small arrays and a small run.

Statements that need a package which is not installed are left out: the others run, then the test is skipped.
"""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import clipscan

ROOT = Path(__file__).parent.parent
OPTIONAL = {  # module -> the package that it needs
    "clipscan.pyod": "pyod",
    "clipscan.sklearn": "sklearn",
    "pyod": "pyod",
    "sklearn": "sklearn",
    "umap": "umap",
}
METHODS = {"to_pandas": "pandas", "to_csr": "scipy"}  # of clipscan's results
CALL = re.compile(r"\b([A-Za-z]\w*)\.\w+(?:\([^()]*\))?")  # g.distance, keep.mask(keys)


class Block(NamedTuple):
    page: str
    line: int  # of the page, from 1, where the code begins
    code: str


def blocks() -> list[Block]:
    found = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, match.start(1)) + 1
            found.append(Block(page.relative_to(ROOT).as_posix(), line, match[1]))
    return found


BLOCKS = blocks()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of 200 pairs in `run`, ten of them on its drop list."""
    folder = tmp_path_factory.mktemp("docs")
    data = arrays()
    for side, rows in (("img", data["embeddings"]), ("text", data["captions"])):
        (folder / f"data/{side}_emb").mkdir(parents=True)
        np.save(folder / f"data/{side}_emb/{side}_emb_0.npy", rows)
    clipscan.scan(folder / "data", out=folder / "run", k=4, reference="30x2", threads=1, fraction=0.05)
    return folder


def arrays() -> dict[str, Any]:
    """What the pages take for given, by the names that they use: vectors [200, 16], one caption a picture."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 16)).astype(np.float32)
    captions = images + rng.normal(scale=0.5, size=images.shape).astype(np.float32)
    cosines = np.concatenate([rng.normal(0.1, 0.03, 60), rng.normal(0.5, 0.05, 140)]).astype(np.float32)
    return {
        "embeddings": images, "images": images, "X": images, "captions": captions, "cosines": cosines,
        "new": rng.normal(size=(10, 16)).astype(np.float32),
        "pictures": [f"{number}.jpg" for number in range(len(images))],
        "encode": lambda some: images[[int(name.removesuffix(".jpg")) for name in some]],
    }  # fmt: skip


def lacking(statement: ast.stmt, absent: dict[str, str]) -> str | None:
    """A missing package that a statement needs, None without one; names that it would bind go to `absent`."""
    nodes = list(ast.walk(statement))
    modules = [one.module or "" for one in nodes if isinstance(one, ast.ImportFrom)]
    modules += [alias.name for one in nodes if isinstance(one, ast.Import) for alias in one.names]
    needed = [OPTIONAL[of] for of in OPTIONAL for module in modules if f"{module}.".startswith(f"{of}.")]
    needed += [METHODS[one.attr] for one in nodes if isinstance(one, ast.Attribute) and one.attr in METHODS]
    missing = [package for package in needed if find_spec(package) is None]
    missing += [absent[one.id] for one in nodes if isinstance(one, ast.Name) and one.id in absent]
    if not missing:
        return None
    bound = [(one.asname or one.name).split(".")[0] for one in nodes if isinstance(one, ast.alias)]
    bound += [one.id for one in nodes if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    absent.update(dict.fromkeys(bound, missing[0]))
    return missing[0]


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.page}:{block.line}" for block in BLOCKS])
def test_it_runs(block: Block, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names, absent, left_out = arrays(), {}, []
    names["keys"] = next(iter(clipscan.DropList.load("run")))[1:]
    for statement in ast.parse(block.code).body:
        if package := lacking(statement, absent):
            left_out.append(f"{ast.unparse(statement)} (needs {package})")
            continue
        place = ast.Module([ast.increment_lineno(statement, block.line - 1)], [])
        exec(compile(place, block.page, "exec"), names)
    for line in block.code.splitlines():  # the comments name members of what has just been made
        for match in CALL.finditer(line.partition("#")[2]):
            if match[1] in names:
                eval(match[0], names)
    if left_out:
        pytest.skip("the rest ran, but not: " + "; ".join(left_out))


def test_the_blocks_are_found() -> None:
    pages = [block.page for block in BLOCKS]
    assert pages.count("README.md") >= 1 and pages.count("docs/library.md") >= 3
    fenced = sum(page.read_text(encoding="utf-8").count("```python") for page in (ROOT / "docs").glob("*.md"))
    assert len(BLOCKS) == fenced + (ROOT / "README.md").read_text(encoding="utf-8").count("```python")
