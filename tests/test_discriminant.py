"""The discriminant of suspicious rows: finds what they share, and judges nobody by himself."""

import numpy as np
import pytest
from disturbance import SEED

from clipscan.engine import as_rows
from clipscan.scores.populations.discriminant import FOLDS, SHRINKAGE, Discriminant
from clipscan.scores.references import identify, identify_pairs
from clipscan.scores.scaled import LARGEST, LEVELS, SPREAD, Scaled, fitted_rows

N, D = 1000, 12


def features(seed=0, n=N):
    """float32 [n, D], of which some go together."""
    draw = np.random.default_rng([5, SEED, seed])
    return (draw.normal(size=(n, D)) @ draw.normal(size=(D, D))).astype(np.float32), draw


def discriminant(x, picture=None):
    """Of rows x; picture [n]: which are of one picture, if not all are different."""
    rows = as_rows(x)
    identity = identify(rows)
    picture = identity.content if picture is None else picture
    return Discriminant(Scaled([rows], fitted_rows(identity.code)), picture, identity.code)


def plain(x, picture, lot, chosen):
    """The docstring's words, one after the other, by loops."""
    x = x.astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + SPREAD)
    x = np.minimum(np.rint(x.clip(-LARGEST, LARGEST) * LEVELS), LARGEST * LEVELS - 1) / LEVELS
    fold = np.array([(int(min(lot[picture == one])) >> 11) % FOLDS for one in picture])
    covariance = sum(np.outer(row, row) for row in x) / len(x)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    found = np.zeros(len(x))
    for one in range(FOLDS):
        taught, here = x[chosen & (fold != one)], fold == one
        if len(taught) and here.any():
            along = x[here] @ np.linalg.solve(covariance, taught.mean(axis=0))
            low, median, high = np.quantile(along, [0.16, 0.5, 0.84])
            found[here] = (along - median) / ((high - low) / 2)
    return found


def test_it_is_what_the_docstring_says():
    x, draw = features()
    picture = draw.integers(0, 400, N)
    ours = discriminant(x, picture)
    for chosen in (draw.uniform(size=N) < 0.05, np.arange(N) == 3):
        assert ours.of(chosen) == pytest.approx(plain(x, picture, ours.lot, chosen), abs=2e-6)


def test_a_direction_that_some_of_the_chosen_share_is_found():
    x, draw = features()
    planted = np.arange(N) < 100
    x[planted] += 4 * x.std(axis=0) * draw.choice([-1, 1], D) / D**0.5
    chosen = np.zeros(N, bool)
    chosen[:30] = True  # of those that bear it, and as many that do not
    chosen[draw.choice(np.arange(100, N), 30, replace=False)] = True
    found = discriminant(x).of(chosen)
    bearing, others = found[planted & ~chosen], found[~planted]
    assert (bearing[:, None] > others).mean() > 0.95
    assert np.median(found[~planted & chosen]) < 1  # to be one of the chosen is not enough


def test_whether_a_row_is_chosen_has_no_influence_on_itself_nor_on_copies_of_its_picture():
    x, draw = features()
    x[500:510] = x[500]
    identity = identify_pairs(as_rows(x), as_rows(draw.normal(size=(N, 4)).astype(np.float32)))
    ours = Discriminant(Scaled([as_rows(x)], fitted_rows(identity.code)), identity.content, identity.code)
    chosen = draw.uniform(size=N) < 0.05
    chosen[500:510] = False
    found = ours.of(chosen)
    for also in ([500], [503, 507], range(500, 510)):
        more = chosen.copy()
        more[list(also)] = True
        again = ours.of(more)
        assert np.array_equal(again[500:510], found[500:510])
        assert not np.array_equal(again, found)  # others do hear of it


def test_copies_of_a_picture_bear_one_trait():
    x, draw = features()
    x[:50] = x[0]
    found = discriminant(x).of(draw.uniform(size=N) < 0.1)
    assert np.ptp(found[:50]) == 0


def test_the_order_of_rows_means_nothing():
    x, draw = features()
    chosen, turn = draw.uniform(size=N) < 0.05, draw.permutation(N)
    assert np.array_equal(discriminant(x[turn]).of(chosen[turn]), discriminant(x).of(chosen)[turn])


def test_where_nobody_is_chosen_nobody_bears_a_trait():
    x, _ = features()
    assert (discriminant(x).of(np.zeros(N, bool)) == 0).all()


def test_the_only_picture_that_is_chosen_says_nothing_of_its_own_fold():
    x, _ = features()
    x[:3] = x[0]
    found = discriminant(x).of(np.arange(N) < 3)
    assert (found[:3] == 0).all() and (found != 0).mean() > 0.7


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("vary", [True, False])
def test_few_rows_and_features_that_never_change_have_finite_traits(n, vary):
    x, _ = features(n=n)
    if not vary:
        x[:] = 3
    assert np.isfinite(discriminant(x).of(np.arange(n) % 2 == 0)).all()


def test_a_feature_that_never_changes_changes_nothing():
    x, draw = features()
    chosen = draw.uniform(size=N) < 0.05
    identity, still = identify(as_rows(x)), as_rows(np.full((N, 1), 7, np.float32))
    scaled = Scaled([as_rows(x), still], fitted_rows(identity.code))
    with_it = Discriminant(scaled, identity.content, identity.code).of(chosen)
    # It adds nothing but to the mean variance, which the shrinkage is a share of.
    assert np.corrcoef(with_it, discriminant(x).of(chosen))[0, 1] > 0.999
