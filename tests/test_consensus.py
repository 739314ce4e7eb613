"""consensus against its definition, in loops and with a slow witness."""

import json
import math

import numpy as np
import pytest
from consensus_helpers import SMALL, K, pairs, scored
from disturbance import SEED
from test_witness import plain_misfit
from worlds import D, N, World, convicted

import clipscan
from clipscan.engine import as_rows
from clipscan.errors import InputError
from clipscan.scores import scaled, slices, witness
from clipscan.scores.all_scores import AllScores
from clipscan.scores.consensus import DROP, LOOK, SURE, WITHIN, judge, ranked
from clipscan.scores.estimate import estimate_of
from clipscan.scores.local import Searcher
from clipscan.scores.pairs import Pairs
from clipscan.scores.populations import Population
from clipscan.scores.references import identify, parse_scales


def tail(column):
    """-ln of the share of rows that are at least as high, less half a row."""
    return np.array([-math.log(((column >= one).sum() - 0.5) / len(column)) for one in column])


def by_definition(image, text, pictures):
    """(evidence, misfit) [n] as the docstring has them."""
    sizes = {size * K: draws for size, draws in ((8, 8), (32, 4), (128, 2))}
    families = ("kdist", "dao", "lof", "slof"), ("cross", "cosine")
    ask = {"reference": ",".join(f"{rows}x{draws}" for rows, draws in sizes.items()), "k": K}
    found = clipscan.score(image, method=families[0], **ask).columns
    density = tail(
        sum(
            math.sqrt(rows) * tail(found[f"{m}@{rows}x{draws}"])
            for rows, draws in sizes.items()
            for m in families[0]
        )
    )
    lonely = in_company(density, image, text) - 1.5
    if text is None:
        return lonely, None
    found = clipscan.score(image, text=text, method=families[1], **ask).columns
    cross = sum(tail(found[f"cross@{rows}x{draws}"]) for rows, draws in sizes.items()) / 3
    cross_modal = tail(cross + tail(found["cosine"]))
    suspicion = value = np.maximum(density, cross_modal)
    lot = identify(as_rows(image)).code
    for _ in range(witness.ROUNDS):
        trusted = value < np.quantile(value, 1 - witness.TRIMMED)
        misfit = plain_misfit(image if pictures is None else pictures, text, lot, trusted)
        value = suspicion + tail(misfit)
    return np.maximum(lonely, tail(cross_modal + tail(misfit) / 2)), misfit


def in_company(density, image, text):
    """The 4 % that are most alone, in the order of their own density and twice that of their neighbours."""
    rows = [as_rows(x) for x in (image, text) if x is not None]
    near = Pairs(rows[0], rows[1] if len(rows) > 1 else None, rows[0], identify(rows[0]), Searcher(K)).near
    alone = np.argsort(-density, kind="stable")[: SMALL // 25]
    value = density[alone] + 2 * density[near(alone)].mean(axis=1)
    density = density.copy()
    density[alone] = tail(value) + math.log(25)
    return density


@pytest.mark.parametrize("given", ["pictures", "pairs", "images"])
def test_evidence_is_what_the_docstring_says(given):
    image, text, pictures = pairs()
    text, pictures = (text if given != "images" else None), (pictures if given == "pictures" else None)
    ours = scored(image, text, pictures)
    evidence, misfit = by_definition(image, text, pictures)
    assert ours.record["populations"] == []
    assert np.abs(ours["consensus"] - evidence).max() < 1e-4
    assert 0 <= ours["consensus"].max() <= math.log(2 * SMALL) + 1e-9
    if text is not None:
        assert np.abs(ours["misfit"] - misfit).max() < 1e-5


def population(rows, fewest, number, bearing):
    return Population("trait", np.array(rows), fewest, number, len(rows), number, 3.0, 0.1, np.array(bearing))


def test_populations_come_first_in_steps_and_the_surest_on_top():
    evidence = np.array([0.5, 6.0, 1.0, 2.0, 3.0, 4.0])
    one = population([2, 3, 4], 1, 2, [0, 0, 5, 5, 5, 5.5])
    score = ranked(evidence, [one])
    third = WITHIN / 3
    assert score == pytest.approx([0.5, 6, SURE + 3 * third, DROP + 2 * third, LOOK + third, 5.5])
    assert estimate_of("consensus", score) == (2, 1, 3, DROP)
    other = population([4, 0], 0, 1, [0, 0, 0, 0, 0, 0])
    both = ranked(evidence, [one, other])
    assert both == pytest.approx([LOOK + WITHIN / 2, 6, score[2], score[3], DROP + WITHIN, 5.5])
    assert np.array_equal(both, ranked(evidence, [other, one]))
    assert np.array_equal(ranked(evidence, []), evidence)


def test_no_evidence_reaches_the_steps_and_no_step_the_next():
    assert math.log(2e12) < LOOK < LOOK + WITHIN < DROP < DROP + WITHIN < SURE


def claimed():
    """A world where 40 pictures of all kinds are said to be one thing, in eight wordings; which."""
    world = World(SEED)
    rows = world.some(40)
    world.say(rows, world.draw.normal(size=D), 8, noise=0.1)
    return world, np.isin(np.arange(N), rows)


def test_the_estimate_counts_the_convicted_and_the_record_tells_of_them():
    world, truth = claimed()
    image, text, pictures = (x.astype(np.float32) for x in (world.image, world.text, world.pictures))
    found = scored(image, text, pictures, k=8)
    (told,) = json.loads(json.dumps(found.record["populations"], allow_nan=False))
    assert told["kind"] == "captions" and told["number"] == 40
    number, fewest, most, border = estimate_of("consensus", found["consensus"])
    assert (number, fewest, most, border) == (told["number"], told["fewest"], told["most"], DROP)
    assert np.array_equal(found["consensus"] >= DROP, truth)
    assert np.array_equal(found["consensus"] >= DROP, convicted(world.judged()))
    assert np.array_equal(found.population, np.where(truth, 0, -1))
    assert scored(image, k=8).population.dtype == np.int64
    assert clipscan.score(image, text=text, method="misfit", k=8).population is None


def test_the_order_of_rows_threads_and_slices_mean_nothing(monkeypatch):
    world, _ = claimed()
    given = [x.astype(np.float32) for x in (world.image, world.text, world.pictures)]
    plain = scored(*given, threads=1)
    turn = world.draw.permutation(N)
    turned = scored(*(x[turn] for x in given), threads=2)
    monkeypatch.setattr(scaled, "STEP", 256)
    monkeypatch.setattr(slices, "QUERY_BYTES", 4 * D * 700)
    sliced = scored(*given, threads=2)
    assert plain.record["populations"]
    for name in ("consensus", "misfit"):
        assert np.array_equal(plain[name][turn], turned[name])
        assert np.array_equal(plain[name], sliced[name])


def test_a_panel_gives_any_slice_of_what_it_knows():
    image, text, pictures = map(as_rows, pairs())
    scorer = AllScores(
        image, text, identify(image), ["misfit", "consensus", "dao"], parse_scales("64"), Searcher(K),
        pictures=pictures,
    )  # fmt: skip
    whole, spread = scorer.columns(0, SMALL)
    parts = [scorer.columns(at, min(SMALL, at + 70))[0] for at in range(0, SMALL, 70)]
    assert set(whole) == {"misfit", "consensus", "dao"} == set(spread)
    for name in whole:
        assert np.array_equal(whole[name], np.concatenate([part[name] for part in parts]))
    assert (spread["consensus"] == 0).all() and (spread["misfit"] == 0).all()


def test_the_witness_is_asked_once_for_both_columns(monkeypatch):
    calls = []
    monkeypatch.setattr("clipscan.scores.all_scores.judge", lambda *given: calls.append(1) or judge(*given))
    scored(*pairs())
    assert calls == [1]


def test_pictures_must_be_one_a_row_and_numbers():
    image, text, pictures = pairs()
    with pytest.raises(InputError, match=r"300 rows, pictures has 299: one a row, in order"):
        scored(image, text, pictures[:-1])
    with pytest.raises(InputError):
        scored(image, text, pictures[0])
    broken = pictures.copy()
    broken[7, 3] = np.nan
    with pytest.raises(InputError, match="pictures"):
        scored(image, text, broken)


def test_pictures_without_captions_are_no_witness_of_captions():
    image, _, pictures = pairs()
    with pytest.raises(InputError, match="misfit"):
        clipscan.score(image, pictures=pictures, method="misfit", k=K)
    assert np.array_equal(scored(image, None, pictures).scores, scored(image).scores)


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_other_types_of_numbers_give_the_scores_of_their_values(kind):
    given = [x.astype(np.float16).astype(kind) for x in pairs()]
    found, exact = scored(*given), scored(*(x.astype(np.float32) for x in given))
    for name in ("consensus", "misfit"):
        assert np.abs(found[name] - exact[name]).max() < 1e-6
    assert [found.record["populations"], exact.record["populations"]] == [[], []]
