"""docs/methods.md: every score and every kind of population has an entry, and its numbers are the code's."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from clipscan.engine import reference
from clipscan.report.convicted import KINDS
from clipscan.report.glossary import SCORES as ON_THE_PAGE
from clipscan.run import group_verdicts
from clipscan.scores import ELSEWHERE, METHODS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "methods.md").read_text(encoding="utf-8")
OF_A_SCORE = ("Formula", "Source", "Range", "Sees", "Misses")
VERDICTS = ("TRIGGER", "BOILERPLATE", "DUPLICATE", "PLACEHOLDER", "COPIES", "ODD", "UNLEARNT")
OF_A_KIND = ("Found by", "Convicted by", "Ends", "Misses")


def entries() -> dict[str, str]:
    """Heading of the third level -> what stands below it."""
    parts = re.split(r"^#{2,3} ", PAGE, flags=re.M)[1:]
    return dict(part.split("\n", 1) for part in parts)


def lacking(entry: str, fields: tuple[str, ...]) -> list[str]:
    return [field for field in fields if not re.search(rf"^- \*\*{field}\*\* \S", entry, re.M)]


@pytest.mark.parametrize("name", [*METHODS, *ELSEWHERE])
def test_every_score_has_an_entry(name: str) -> None:
    assert f"`{name}`" in entries(), f"docs/methods.md has no heading ### `{name}`"
    assert not lacking(entries()[f"`{name}`"], OF_A_SCORE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_population_has_an_entry(kind: str) -> None:
    assert f"`{kind}`" in entries(), f"docs/methods.md has no heading ### `{kind}`"
    assert not lacking(entries()[f"`{kind}`"], OF_A_KIND)


def test_entries_of_other_statistics_have_all_fields() -> None:
    others = ("Near-copies", "How many to drop", "Calibration", "Retrieval", "Partition", "Trigger recovery")
    for name in (*others, "Heads"):
        assert not lacking(entries()[name], OF_A_SCORE), name


def test_the_page_tells_of_no_score_that_has_no_entry() -> None:
    assert set(ON_THE_PAGE) - {"norm"} == {*METHODS, *ELSEWHERE}
    assert "**norm**" in entries()["Glossary"]


def test_constants_have_the_values_of_the_code() -> None:
    rows = re.findall(r"^\| `([\w.]+)\.(\w+)` \| (\S+) \|", entries()["Constants"], re.M)
    assert rows
    for module, name, value in rows:
        there = getattr(importlib.import_module(f"clipscan.scores.{module}"), name)
        assert round(float(there), 3) == float(value), f"{module}.{name} is {there}"


def test_constants_that_the_populations_name_stand_in_the_table() -> None:
    named = "".join(entries()[name] for name in ("Populations", *(f"`{kind}`" for kind in KINDS)))
    table = re.findall(r"^\| `[\w.]+\.(\w+)`", entries()["Constants"], re.M)
    assert set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", named)) <= set(table)


def test_the_glossary_tells_every_verdict() -> None:
    said = re.sub(r"\s+", " ", entries()["Glossary"])
    for words in (getattr(group_verdicts, name) for name in VERDICTS):
        short = re.split(r"[:,]| whose", words)[0]
        assert short in said, f"{short!r} is no verdict of the glossary"


def test_links_lead_somewhere() -> None:
    def anchor(heading: str) -> str:
        return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

    anchors = {anchor(name) for name in entries()}
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGE):
        assert target[1:] in anchors if target.startswith("#") else (DOCS / target).exists(), target


def test_no_line_is_wider_than_128_columns() -> None:
    assert [line for line in PAGE.splitlines() if len(line) > 128] == []


def test_no_line_of_the_other_texts_is_wider_either() -> None:
    for path in (*DOCS.glob("*.md"), DOCS.parent / "ARCHITECTURE.md"):
        wide = [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > 128]
        assert [line for line in wide if not line.startswith("|")] == [], path
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in readme if len(line) > 120] == []


def test_the_formulas_are_those_of_the_reference() -> None:
    """Written out from the page, in its letters, for one row among drawn ones."""
    rng = np.random.default_rng(0)
    points, x, k = rng.normal(size=(50, 6)), rng.normal(size=(1, 6)), 5
    number = np.arange(len(points))
    own = reference.density(*reference.knn(points, points, k, number, number))
    distance, index = reference.knn(x, points, k)
    found = {name: column[0] for name, column in reference.density(distance, index, own).items()}
    r, o = distance[0], index[0]
    kdist, lid = own["kdist"][o], own["lid"][o]
    expected = {
        "kdist": r[-1],
        "lid": 1 / np.log(r[-1] / r).mean(),
        "lid_mom": r.mean() / (r[-1] - r.mean()),
        "lof": (own["lrd"][o] * np.maximum(kdist, r).mean()).mean(),
        "slof": (r[-1] / kdist).mean(),
        "dao": ((r[-1] / kdist) ** lid).mean(),
        "logdao": (lid * np.log(r[-1] / kdist)).mean(),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
