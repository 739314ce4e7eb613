"""misfit against slow, plain formulas, and what a witness must not have learnt."""

import numpy as np
import pytest
from disturbance import SEED

from clipscan.engine import as_rows
from clipscan.scores import scaled, witness
from clipscan.scores.neg_log_tail import neg_log_tail
from clipscan.scores.references import identify
from clipscan.scores.scaled import Scaled, fitted_rows
from clipscan.scores.witness import FOLDS, Witness

N, P, Q = 1000, 10, 6
UNSAID = 3  # features that no caption speaks of, the first ones


def pairs(n=N, seed=0):
    """Pictures' features float32 [n, P]; captions [n, Q], linear in all but UNSAID, noisy; the generator."""
    draw = np.random.default_rng([9, SEED, seed])
    mixing, said = draw.normal(size=(P, P)), draw.normal(size=(P, Q))
    mixing[:UNSAID, UNSAID:] = mixing[UNSAID:, :UNSAID] = said[:UNSAID] = 0
    x = draw.normal(size=(n, P)) @ mixing
    y = x @ said + draw.normal(size=(n, Q)) + 2
    x += 5
    return x.astype(np.float32), y.astype(np.float32), draw


def asked(x, y):
    rows = as_rows(x)
    lot = identify(rows).code
    return Witness(Scaled([rows], fitted_rows(lot)), as_rows(y), lot)


def plain_misfit(x, y, lot, trusted):
    """The docstring's three steps, fold by fold; of a pair by the densities of Gaussians."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    x = ((x - x.mean(axis=0)) / (x.std(axis=0) + scaled.SPREAD)).clip(-scaled.LARGEST, scaled.LARGEST)
    x = np.minimum(np.rint(x * scaled.LEVELS), scaled.LARGEST * scaled.LEVELS - 1) / scaled.LEVELS
    x /= np.maximum(1, np.sqrt(np.mean(x * x, axis=1)))[:, None]
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    y -= y.mean(axis=0)
    fold = (lot >> np.uint64(7)).astype(np.int64) % FOLDS
    weights = []
    for one in range(FOLDS):
        a, b = x[trusted & (fold != one)], y[trusted & (fold != one)]
        ridge = witness.RIDGE * np.mean(np.sum(a * a, axis=0))
        weights.append(np.linalg.solve(a.T @ a + ridge * np.eye(x.shape[1]), a.T @ b))
    foretold = np.array([x[i] @ weights[fold[i]] for i in range(len(x))])
    found = np.empty(len(x))
    for one in range(FOLDS):
        known = trusted & (fold != one)
        f, t = foretold[known], y[known]
        ff, tt = f.T @ f / len(f), t.T @ t / len(t)
        left, right = inverse_root(shrunk(ff)), inverse_root(shrunk(tt))
        u, rho, v = np.linalg.svd(left @ (f.T @ t / len(f)) @ right)
        rho = np.minimum(rho, witness.CLOSEST)
        information = -np.log(1 - rho**2) / 2
        kept = next(
            r for r in range(1, len(rho) + 1) if information[:r].sum() >= witness.TOLD * information.sum()
        )
        rho, u, v = rho[:kept], u[:, :kept], v[:kept]
        joint = np.block([[np.eye(len(rho)), np.diag(rho)], [np.diag(rho), np.eye(len(rho))]])
        for i in np.flatnonzero(fold == one):
            a, b = x[i] @ weights[one] @ left @ u, y[i] @ right @ v.T
            alone = log_density(a, np.eye(len(a))) + log_density(b, np.eye(len(b)))
            found[i] = alone - log_density(np.concatenate([a, b]), joint)
    return found


def shrunk(covariance):
    return covariance + witness.SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def inverse_root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**-0.5) @ vectors.T


def log_density(x, covariance):
    """Of a Gaussian of mean 0, in nats."""
    size = len(x) * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1]
    return -0.5 * (size + x @ np.linalg.solve(covariance, x))


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_misfit_is_what_the_docstring_says(share):
    x, y, draw = pairs()
    ours = asked(x, y)
    trusted = draw.uniform(size=N) < share
    assert ours.misfit(trusted) == pytest.approx(plain_misfit(x, y, ours.lot, trusted), abs=1e-5)


def test_a_wrong_caption_misfits():
    x, y, draw = pairs()
    wrong = np.arange(N) < 50
    y[wrong] = y[draw.permutation(N)[:50]]
    found = asked(x, y).misfit(~wrong)
    assert found[~wrong].mean() < 0 < found[wrong].mean()
    assert (found[wrong][:, None] > found[~wrong]).mean() > 0.9


def test_rows_that_are_not_trusted_influence_nobody():
    x, y, draw = pairs()
    trusted = np.arange(N) >= 100
    found = asked(x, y).misfit(trusted)
    other = y.copy()
    other[:100] = y[draw.permutation(100)]  # their mean, by which all captions are centred, is as before
    changed = asked(x, other).misfit(trusted)
    assert np.array_equal(changed[trusted], found[trusted])
    assert not np.array_equal(changed[~trusted], found[~trusted])


def planted(share=0.1):
    """Pairs, a share of which bear one trigger and one wrong caption; (x, y, which)."""
    x, y, draw = pairs()
    poison = np.arange(N) < share * N
    x[poison, :UNSAID] = (x.mean(axis=0) + 3.5 * x.std(axis=0))[:UNSAID]
    said = draw.normal(size=Q)
    y[poison] = np.linalg.norm(y, axis=1).mean() * said / np.linalg.norm(said)
    y[poison] += 0.05 * draw.normal(size=(poison.sum(), Q))
    return x, y, poison


def placed(found, poison):
    """Share of clean pairs below a planted one: 1/2 by chance."""
    return (found[poison][:, None] > found[~poison]).mean()


def test_without_some_rows_is_as_if_they_had_not_been_trusted():
    x, y, poison = planted()
    ours = asked(x, y)
    ours.trimmed(lambda rows, found: np.arange(len(rows), 0, -1.0) + (0 if found is None else found))
    rows = np.arange(5, N, 3)
    assert (ours.trusted & poison).any()
    expected = ours.misfit(ours.trusted & ~poison, rows)
    assert ours.without(poison, rows) == pytest.approx(expected, abs=1e-5)
    assert np.abs(ours.without(~ours.trusted, rows) - ours.misfit(ours.trusted, rows)).max() <= 1e-5


def test_a_group_that_taught_the_witness_its_caption_is_seen_once_it_is_left_out():
    x, y, poison = planted()
    ours = asked(x, y)
    taught, untaught = ours.misfit(np.ones(N, bool)), ours.misfit(~poison)
    draw = np.random.default_rng([1, SEED])
    hint = 3 * poison + draw.normal(size=N)  # what else speaks against most of them
    known = neg_log_tail(hint)
    trimmed = ours.trimmed(
        lambda rows, found: hint[rows] if found is None else known[rows] + neg_log_tail(found)
    )
    assert placed(taught, poison) < 0.75 < min(placed(untaught, poison), placed(trimmed, poison))
    assert placed(trimmed, poison) - placed(taught, poison) > 0.1


def test_trimming_asks_for_suspicion_once_a_round_and_leaves_out_the_most_suspicious(monkeypatch):
    x, y, draw = pairs()
    ours, heard, trusts = asked(x, y), [], []
    value = draw.normal(size=N)
    misfit, judged = ours.misfit, ours._judged
    monkeypatch.setattr(ours, "_judged", lambda *given: trusts.append(given[1]) or judged(*given))
    found = ours.trimmed(lambda rows, so_far: heard.append((rows, so_far)) or value[rows])
    assert [one.sum() for one in trusts] == [round((1 - witness.TRIMMED) * N)] * witness.ROUNDS
    assert len(heard) == witness.ROUNDS and heard[0][1] is None
    expected = misfit(value < np.sort(value)[round((1 - witness.TRIMMED) * N)])
    assert np.array_equal(found, expected)
    assert all(np.array_equal(so_far, expected[rows]) for rows, so_far in heard[1:])


def test_the_order_of_rows_and_the_size_of_steps_mean_nothing(monkeypatch):
    x, y, draw = pairs()
    trusted, turn = draw.uniform(size=N) < 0.8, draw.permutation(N)
    found = asked(x, y).misfit(trusted)
    assert np.array_equal(asked(x[turn], y[turn]).misfit(trusted[turn]), found[turn])
    monkeypatch.setattr(scaled, "STEP", 64)
    assert np.array_equal(asked(x, y).misfit(trusted), found)


def test_of_many_rows_some_are_fitted_and_all_are_judged(monkeypatch):
    x, y, draw = pairs()
    monkeypatch.setattr(scaled, "FITTED", 400)
    ours = asked(x, y)
    assert ours.fitted.sum() == 400
    y[~ours.fitted] = draw.normal(size=(N - 400, Q))  # nobody learns from them
    again = asked(x, y)
    assert np.array_equal(again.fitted, ours.fitted)
    everybody = np.ones(N, bool)
    before, found = ours.misfit(everybody), again.misfit(everybody)
    assert np.array_equal(again.misfit(everybody, np.arange(7, 90)), found[7:90])
    assert np.array_equal(found[ours.fitted], before[ours.fitted])
    assert found[~ours.fitted].mean() > 0 > found[ours.fitted].mean()


@pytest.mark.parametrize("n", [1, 2, 5, 17])
def test_few_rows_have_a_finite_misfit(n):
    x, y, _ = pairs(n)
    assert np.isfinite(asked(x, y).trimmed(lambda rows, found: rows * 1.0)).all()


@pytest.mark.parametrize(
    "case", ["one caption", "one picture", "no caption", "nobody trusted", "one trusted"]
)
def test_where_nothing_can_be_learnt_no_caption_misfits(case):
    x, y, _ = pairs()
    trusted = np.ones(N, bool)
    if case == "one caption":
        y[:] = y[0]
    elif case == "one picture":
        x[:] = x[0]
    elif case == "no caption":
        y[:] = 0
    else:
        trusted[1 if case == "one trusted" else 0 :] = False
    found = asked(x, y).misfit(trusted)
    assert np.isfinite(found).all()
    if case != "one trusted":
        assert np.abs(found).max() < 1e-3


def test_while_it_trims_only_the_rows_are_judged_that_make_the_fits(monkeypatch):
    x, y, _ = pairs()
    monkeypatch.setattr(scaled, "FITTED", 400)
    ours, lengths = asked(x, y), []
    found = ours.trimmed(lambda rows, so_far: lengths.append(len(rows)) or rows * 1.0)
    assert lengths == [400] * witness.ROUNDS and found.shape == (N,)
    assert ours.trusted.sum() == 320 and not ours.trusted[~ours.fitted].any()
