"""Heads: clean pictures pass as often as was said; planted infections are found and repaired."""

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipscan.errors import DataError, InputError
from clipscan.heads.calibrate import calibrate, needed, prototypes
from clipscan.heads.decompose import Terms
from clipscan.heads.picture import draw
from clipscan.heads.statistics import align, judge, repair

pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")


def terms_like(count, seed=0, shape=(3, 5, 8), mean=None):
    """Terms of made-up clean pictures: around one mean, 3 blocks of 4 heads."""
    rng = np.random.default_rng(seed)
    mean = np.random.default_rng(99).normal(size=shape) / 10 if mean is None else mean
    blocks = mean + 0.03 * rng.normal(size=(count, *shape))
    initial = 0.1 * rng.normal(size=(count, shape[-1]))
    return Terms(
        initial.astype(np.float32), blocks.astype(np.float32), rng.uniform(5, 9, count).astype(np.float32)
    )


def fitted(count=400, rate=0.05):
    makers, others = terms_like(count, 1), terms_like(count, 2)
    prototype = prototypes([makers])
    return calibrate(prototype, align(makers, prototype), align(others, prototype), rate, {})


def test_fresh_clean_pictures_are_flagged_as_often_as_was_said():
    rate, flagged, infected = 0.05, [], []
    for draw_number in range(60):
        makers, others, fresh = (terms_like(99, 3 * draw_number + i) for i in range(3))
        prototype = prototypes([makers])
        fit = calibrate(prototype, align(makers, prototype), align(others, prototype), rate, {})
        judged = judge(fit, align(fresh, prototype))
        flagged.append(judged.flagged.mean())
        infected.append(judged.infected.mean())
    deviation = 2 * (rate * (1 - rate) / 99 * 2 / 60) ** 0.5  # of 99 fresh ones and of 99 that set the level
    assert abs(np.mean(flagged) - rate) < 2 * deviation
    assert abs(np.mean(infected) - rate) < 2 * deviation


def test_thresholds_from_the_pictures_that_made_the_prototype_would_flag_too_many():
    def share(same):
        flagged = []
        for i in range(20):
            makers, others, fresh = (
                terms_like(40, 3 * i + j, (1, 3, 256), np.full((1, 3, 256), 0.001)) for j in range(3)
            )
            prototype = prototypes([makers])
            level = align(makers if same else others, prototype)
            fit = calibrate(prototype, align(makers, prototype), level, 0.1, {})
            flagged.append(judge(fit, align(fresh, prototype)).flagged.mean())
        return np.mean(flagged)

    assert share(same=False) < 0.15 < 0.5 < share(same=True)


def planted(terms, blocks, columns):
    """The same pictures, their terms at these places turned away from the mean of clean ones."""
    changed = terms.blocks.copy()
    changed[:, blocks, columns] -= 2 * fitted().prototype[blocks, columns]
    return terms._replace(blocks=changed)


@pytest.mark.parametrize("branch, blocks, columns", [("head", [-1, -1], [0, 2]), ("mlp", [-1], [-1])])
def test_a_planted_infection_is_found_where_it_is_and_repaired(branch, blocks, columns):
    fit, clean = fitted(), terms_like(200, 7)
    bad = planted(clean, blocks, columns)
    judged = judge(fit, align(bad, fit.prototype))
    assert judged.flagged.mean() > 0.95 and (judged.branch[judged.flagged] == branch).mean() > 0.95
    before = np.linalg.norm((bad.total() - clean.total()), axis=1)
    after = np.linalg.norm(repair(fit, bad) / bad.length[:, None] - clean.total(), axis=1)
    assert np.median(after) < 0.6 * np.median(before)
    other = repair(fit, bad, "mlp" if branch == "head" else "head")
    assert np.linalg.norm(other / bad.length[:, None] - clean.total(), axis=1).mean() > after.mean()
    if branch == "head":
        assert (judged.infected[:, [0, 2]]).mean() > 0.9 and judged.infected[:, [1, 3]].mean() < 0.1


def test_pictures_that_are_not_flagged_keep_their_embedding():
    fit, terms = fitted(), terms_like(300, 8)
    flagged = judge(fit, align(terms, fit.prototype)).flagged
    same = np.isclose(repair(fit, terms), terms.total() * terms.length[:, None], atol=1e-5).all(axis=1)
    assert same[~flagged].all() and not same[flagged].any() and 0 < flagged.sum() < 60


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2), st.integers(0, 4), st.floats(0, 5))
def test_aligning_less_never_makes_a_picture_less_suspicious(block, column, less):
    fit = fitted(50, 0.1)
    alignment = align(terms_like(20, 5), fit.prototype)
    lower = alignment.copy()
    lower[:, block, column] -= less
    before, after = judge(fit, alignment), judge(fit, lower)
    assert (after.head_score >= before.head_score).all() and (after.mlp_score >= before.mlp_score).all()
    assert (after.infected_heads >= before.infected_heads).all() and (after.flagged >= before.flagged).all()


def test_a_head_that_never_varies_has_no_say():
    def with_constant(terms):
        blocks = terms.blocks.copy()
        rounding = 1 + 1e-7 * np.random.default_rng(len(blocks)).normal(size=(len(blocks), 1))
        blocks[:, -1, 0] = np.ones(8) * rounding
        return terms._replace(blocks=blocks)

    makers, others, fresh = (with_constant(terms_like(200 + i, i)) for i in range(3))
    prototype = prototypes([makers])
    fit = calibrate(prototype, align(makers, prototype), align(others, prototype), 0.05, {})
    assert np.abs(judge(fit, align(fresh, prototype)).shortfall[:, -1, 0]).max() < 0.1


@pytest.mark.parametrize("rate, least", [(0.01, 198), (0.05, 38), (0.5, 2), (0.03, 66)])
def test_too_few_clean_pictures_are_refused_with_the_number_needed(rate, least):
    assert needed(rate) == least
    half = np.random.default_rng(0).normal(size=(least // 2, 2, 3))
    prototype = np.zeros((2, 3, 4), np.float32)
    calibrate(prototype, half, half, rate, {})
    with pytest.raises(DataError, match=f"needs {least}"):
        calibrate(prototype, half[1:], half, rate, {})


@pytest.mark.parametrize("rate", [0, -1, 0.6, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(InputError, match="above 0 and at most 0.5"):
        needed(rate)


def test_the_map_has_a_square_for_every_term_and_is_an_xml_that_stands_alone():
    shortfall = np.random.default_rng(0).normal(size=(3, 5)) * 10
    root = ElementTree.fromstring(draw(shortfall, "2 pictures"))
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 15
    assert (
        f"block 3, MLP: {shortfall[2, 4]:+.2f}" in titles
        and f"block 1, head 1: {shortfall[0, 0]:+.2f}" in titles
    )
    assert "href" not in draw(shortfall, "") and "<script" not in draw(shortfall, "")
