"""One table of scores: every list, message and page about scores follows from it, and none knows another."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import clipscan
from clipscan import scores
from clipscan.cli.options import Method
from clipscan.lab.grid import cell_scores
from clipscan.report import glossary
from clipscan.run import columns, why_suspected
from clipscan.run.options import Compute, Ranking
from clipscan.run.scoring import ranking_column
from clipscan.scores import table
from clipscan.scores.consensus import CROSS_MODAL, DENSITY
from clipscan.scores.detect_clip import METHODS as RELEASED
from clipscan.scores.table import FAMILIES, SCORES

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(0)
IMAGE, TEXT = (RNG.standard_normal((90, 8)).astype(np.float32) for _ in range(2))


@pytest.fixture(scope="module")
def computed():
    """Columns of one call with everything: of embeddings, and of a graph."""
    pairs = clipscan.score(IMAGE, text=TEXT, method="all", k=4, reference="30x2,40x2")
    graph = clipscan.score(graph=clipscan.knn(IMAGE, k=4), method="all")
    return {*pairs.columns}, {*graph.columns}


LOCAL = ("kdist", "lid", "lid_mom", "lof", "slof", "dao", "logdao")
LISTS = {
    "METHODS": ("consensus", *LOCAL, "iforest", "cosine", "agree", "cross", "misfit"),
    "LOCAL": LOCAL,
    "CROSS": ("agree", "cross"),
    "SEARCHED": (*LOCAL, "agree", "cross"),
    "JOINT": ("consensus", "misfit"),
    "NEED_TEXT": ("cosine", "agree", "cross", "misfit"),
    "ELSEWHERE": ("antihub", "trusted"),
    "PUBLISHED": (*LOCAL, "iforest", "cosine"),
    "VARIANTS": ("lid_mom", "logdao"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_derived_list_has_the_scores_and_the_order_that_users_know(name):
    assert tuple(getattr(table, name)) == LISTS[name]


def test_the_table_holds_exactly_the_scores_that_are_computed(computed):
    pairs, graph = ({name.partition("@")[0] for name in found} for found in computed)
    assert pairs == set(scores.METHODS) and graph == set(scores.FROM_GRAPH)
    assert pairs | graph | {"trusted"} == set(SCORES)
    assert {*RELEASED} | {*DENSITY, *CROSS_MODAL} <= set(SCORES)


def test_a_score_has_a_column_for_each_reference_only_where_the_table_says_so(computed):
    for name in scores.METHODS:
        expected = {f"{name}@30x2", f"{name}@40x2"} if SCORES[name].drawn else {name}
        assert {column for column in computed[0] if column.partition("@")[0] == name} == expected
        asked = Ranking(method=name, reference="30x2,40x2")
        asked.check(Compute())
        assert ranking_column(asked) in expected


def test_captions_are_needed_where_the_table_says_so():
    alone = {*clipscan.score(IMAGE, method="all", k=4, reference="30x2").columns}
    assert alone == {name for name in scores.METHODS if "text" not in SCORES[name].needs}


@pytest.mark.parametrize("name", scores.METHODS)
def test_k_and_reference_change_a_score_where_the_table_says_so(name):
    def found(k=3, reference="30x2"):
        return clipscan.score(IMAGE, text=TEXT, method=name, k=k, reference=reference).scores

    assert (found() != found(k=6)).any() == SCORES[name].uses_k
    assert (found() != found(reference="40x2")).any() == SCORES[name].drawn
    keys = cell_scores.wanted(cell_scores.Asked((name,), (3, 6), ("30x2", "40x2")))
    assert len(keys) == (1 + SCORES[name].uses_k) * (1 + SCORES[name].drawn)


def test_a_scan_computes_unasked_all_but_the_forest(tmp_path):
    for side, vectors in (("img", IMAGE), ("text", TEXT)):
        (tmp_path / f"data/{side}_emb").mkdir(parents=True)
        np.save(tmp_path / f"data/{side}_emb/{side}_emb_0.npy", vectors)
    done = clipscan.scan(tmp_path / "data", out=tmp_path / "run", k=4, reference="30x2", method="kdist")
    assert {*SCORES} - {*done.table().column_names} == {"iforest", "trusted"}


@pytest.mark.parametrize("name", scores.LOCAL)
def test_of_dao_alone_the_logarithm_is_averaged(name):
    first, both = (clipscan.score(IMAGE, method=name, k=4, reference=f"30x{draws}") for draws in (1, 2))
    by = np.log if name == "dao" else np.asarray
    assert np.allclose(both.spread[name], abs(by(first.scores) - by(both.scores)))
    said = columns.meaning("suspects.parquet", f"{name}_spread")
    assert SCORES[name].by_log == ("logarithm" in said) == (name == "dao")


def test_what_comes_from_elsewhere_says_whence_and_what_a_run_lacks():
    for name, one in SCORES.items():
        beside = bool({"graph", "model"} & {*one.needs})
        assert beside == bool(one.elsewhere) == bool(one.missing) == (name not in scores.METHODS)
        if beside:
            with pytest.raises(clipscan.InputError, match=re.escape(one.elsewhere)):
                clipscan.score(IMAGE, method=name)


def test_a_mistyped_score_is_answered_with_all_there_are():
    with pytest.raises(clipscan.InputError, match=", ".join(scores.METHODS)):
        clipscan.score(IMAGE, method="doa")
    with pytest.raises(clipscan.InputError, match=", ".join((*scores.METHODS, *scores.ELSEWHERE))):
        Ranking(method="doa").check(Compute())


def test_every_score_is_explained_and_named():
    pages, named = (ROOT / "docs/tables.md").read_text(), Method.__metadata__[0].help.split(": ")[1]
    assert named.split(", ") == [*scores.METHODS, *scores.ELSEWHERE]
    for name, one in SCORES.items():
        assert one.family in FAMILIES and one.about
        assert pages.count(f"| `{name}` | {one.about} |") == len(columns.SCORED)
        assert columns.meaning("suspects.parquet", name) == glossary.about(name) == one.about
        assert re.search(rf"\b{name}\b", clipscan.score.__doc__) or name == "trusted"


def test_the_readme_names_the_scores_of_a_family_in_one_cell_as_the_page_counts_them():
    lines = (ROOT / "README.md").read_text().splitlines()
    cells = [sorted(cell.strip().split(", ")) for line in lines for cell in line.split("|")]
    for counted in (glossary.is_density_score, glossary.is_pair_score):
        assert sorted(name for name in SCORES if counted(f"{name}@30x2")) in cells
    assert any("`consensus`" in line for line in lines)


@pytest.mark.parametrize("name", [name for name, one in SCORES.items() if one.notable])
def test_the_first_by_a_score_with_a_sentence_are_told_it_at_every_scale(name):
    for scale in ("", "@30x2"):
        column = f"{name}{scale if SCORES[name].drawn else ''}_rank"
        row = {"cosine_rank": 50, column: 1}
        assert why_suspected.why(row, {}, 100, {"method": f"dao{scale}", "k": 4}) == SCORES[name].notable


def test_the_table_cannot_be_changed_by_the_way():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCORES["dao"].uses_k = False
