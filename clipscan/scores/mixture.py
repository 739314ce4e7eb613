"""Safe or risky: two normal components in the cosines of the pairs (Yang et al., ICML 2024, SafeCLIP).

Pairs whose caption fits lie in the component of the higher mean. A mixture can be fitted to any numbers, so
it is only believed where two components are there (Mixture.separates).

The posterior of the high component is not monotone where the variances differ: the wider component wins
again far out on the other side, and the lowest cosines of all would come out safe. Its log-odds are a
parabola, whose turning point lies outside the two means; beyond it the posterior is held at the value
there. What is higher is then never less safe.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from clipscan.engine.arrays import Array
from clipscan.errors import InputError
from clipscan.scores.result import count_of

THRESHOLD = 0.9
# Below this many values one skewed population passes for two in up to a third of random draws; from here on
# in at most 3 of 100 (normal, Student's t, gamma, log-normal, exponential; tests/test_mixture.py has them).
LEAST = 300
DISTINCT = 20  # different values, below which there is no shape to fit
TOO_FEW = (
    "there are too few pairs to tell safe from risky ones: a mixture needs at least "
    f"{LEAST} cosines, {DISTINCT} different ones among them"
)
GRID = 1000  # values are fitted on a grid of this many steps a standard deviation: a million become thousands
FLOOR = 0.05  # standard deviations: no component is narrower, or the copies of one pair would be one
STARTS = (0.02, 0.1, 0.5, 0.9, 0.98)  # shares of the values in the low component to begin with
ROUNDS, TOLERANCE = 2000, 1e-8  # of EM; gain in log-likelihood a value at which it stops
GAIN = 10.0  # of BIC, two components over one: "very strong" evidence (Kass and Raftery 1995)
APART = 2.0  # d' from which two components are cleanly separated (Ashman, Bird and Zepf 1994)


class Component(NamedTuple):
    """A normal distribution and its share of all values."""

    mean: float
    deviation: float
    weight: float


class Mixture(NamedTuple):
    """Two components; `gain`: the BIC of one component less that of the two (above 0: two are likelier)."""

    low: Component
    high: Component
    gain: float

    @property
    def apart(self) -> float:
        """d' = |difference of the means| / root of the mean variance (Ashman's D)."""
        variance = (self.low.deviation**2 + self.high.deviation**2) / 2
        return (self.high.mean - self.low.mean) / math.sqrt(variance)

    @property
    def separates(self) -> bool:
        """Whether there are two populations: more than GAIN in BIC and at least APART deviations. Single ones
        that are skewed or have heavy tails fail the second. A flat one that ends abruptly (a uniform
        distribution, d' = 3.0) passes both."""
        return self.gain > GAIN and self.apart >= APART

    def words(self) -> str:
        """Both components and how far they are apart, or why they do not separate."""
        if self.separates:
            return (
                f"two components: {self.low.weight:.1%} around {self.low.mean:.3f}, "
                f"{self.high.weight:.1%} around {self.high.mean:.3f}, d' = {self.apart:.2f}"
            )
        return (
            "safe and risky pairs cannot be told apart: the cosines do not separate into two components "
            f"(d' = {self.apart:.2f} deviations between their means, at least {APART:g} are needed; two gain "
            f"{self.gain:,.0f} over one in BIC, more than {GAIN:g} is needed)"
        )

    def posterior(self, values: ArrayLike) -> Array:
        """Probability of the high component, non-decreasing in the value; NaN for what is not finite.
        float64 [n]."""
        low, high = self.low, self.high
        x = np.asarray(values, np.float64)
        x = np.where(np.isfinite(x), x, np.nan)
        bend = low.deviation**2 - high.deviation**2
        if bend:
            turn = (high.mean * low.deviation**2 - low.mean * high.deviation**2) / bend
            x = np.maximum(x, turn) if bend < 0 else np.minimum(x, turn)
        odds = _log_density(x, high) - _log_density(x, low)
        return 0.5 * (1.0 + np.tanh(0.5 * odds))

    def record(self) -> dict[str, Any]:
        """The mixture for JSON."""
        return {
            "low": self.low._asdict(), "high": self.high._asdict(),
            "gain": self.gain, "apart": self.apart, "separates": self.separates,
        }  # fmt: skip


class Partition(NamedTuple):
    """Of n pairs: which are safe [n] bool; the posterior of the high component [n], NaN everywhere where
    the mixture does not separate; the mixture, None where there are too few values to fit one."""

    safe: Array
    posterior: Array
    mixture: Mixture | None

    @property
    def separated(self) -> bool:
        """Whether there are two populations, so that the posterior means something."""
        return self.mixture is not None and self.mixture.separates

    def words(self) -> str:
        """How many pairs are safe, and the mixture."""
        return f"{int(self.safe.sum()):,} of {len(self.safe):,} pairs are safe; {self.finding()}"

    def finding(self) -> str:
        """The mixture in words."""
        return self.mixture.words() if self.mixture else TOO_FEW


def partition(cosine: ArrayLike, *, threshold: float | None = None, share: float | None = None) -> Partition:
    """Split n pairs by their cosines into safe and risky ones.

        cosine = 1 - clipscan.score(images, text=captions, method="cosine").scores
        p = clipscan.partition(cosine)
        p.safe if p.separated else p.words()

    cosine [n]: of picture and caption, high = they fit, in a model that has NOT learnt its poison: after a
    unimodal warm-up and one epoch at a small rate, or trained elsewhere. A fully trained suspect finds its
    poison fitting. Any scale will do.
    Safe are those whose posterior of the high component is at least `threshold` (0.9 unless given), or the
    `share` of all n with the highest cosines, rounded up; of equal cosines the first. What is not finite is
    never safe. A mixture that does not separate comes back with `separated` False; unless a share decides no
    pair is safe there, as a posterior would mean nothing.

    Raises InputError for both rules at once and for values outside 0..1. Source: Yang et al. 2024.
    """
    values = np.asarray(cosine, np.float64)
    if values.ndim != 1:
        raise InputError(f"cosines must be [n], got {values.shape}")
    if threshold is not None and share is not None:
        raise InputError("give a threshold or a share, not both")
    for name, value in (("threshold", threshold), ("share", share)):
        if value is not None and not 0 <= value <= 1:
            raise InputError(f"{name}={value!r} must lie in 0..1")
    mixture = fit_mixture(values)
    posterior = mixture.posterior(values) if mixture and mixture.separates else np.full(len(values), np.nan)
    if share is not None:
        return Partition(highest(values, share), posterior, mixture)
    return Partition(posterior >= (THRESHOLD if threshold is None else threshold), posterior, mixture)


def highest(values: ArrayLike, share: float) -> Array:
    """Which of n values are the highest `share` of all n, rounded up, [n] bool; of equal ones the first. What
    is not finite is none of them."""
    x = np.asarray(values, np.float64)
    order = np.argsort(-np.where(np.isfinite(x), x, -np.inf), kind="stable")
    chosen = np.zeros(len(x), bool)
    chosen[order[: count_of(share, len(x))]] = True
    return chosen & np.isfinite(x)


def fit_mixture(values: ArrayLike) -> Mixture | None:
    """The likeliest of several EM fits of two normal components to n values, from fixed starts.

    The order of the values does not matter; NaN and infinities are left out. A component is never narrower
    than FLOOR of the standard deviation of all. None for fewer than LEAST values, or DISTINCT different ones.
    """
    x = np.asarray(values, np.float64)
    x = np.sort(x[np.isfinite(x)])
    centre, scale = (float(x.mean()), float(x.std())) if len(x) else (0.0, 0.0)
    if len(x) < LEAST or not scale > 1e-12 * abs(centre):
        return None
    z, count = np.unique(np.round((x - centre) / scale * GRID) / GRID, return_counts=True)
    if len(z) < DISTINCT:
        return None
    fits = [_climb(z, count, share) for share in STARTS]
    likelihood, components = max(fits, key=lambda fit: fit[0])
    low, high = sorted(Component(centre + scale * c.mean, scale * c.deviation, c.weight) for c in components)
    one = float(count @ _log_density(z, Component(0.0, 1.0, 1.0)))
    gain = 2 * (likelihood - one) - 3 * math.log(len(x))  # two components have three parameters more
    return Mixture(low, high, gain)


def _climb(z: Array, count: Array, share: float) -> tuple[float, list[Component]]:
    """(log-likelihood, components) where EM ends that begins with the lowest `share` as one component."""
    total = count.sum()
    high = (np.cumsum(count) > share * total).astype(np.float64)  # [points] posterior
    reached = -math.inf
    for _ in range(ROUNDS):
        components = [_component(z, count * part, total) for part in (1 - high, high)]
        logs = [_log_density(z, c) for c in components]
        both = np.logaddexp(*logs)
        likelihood = float(count @ both)
        if likelihood - reached < TOLERANCE * total:
            break
        reached, high = likelihood, np.exp(logs[1] - both)
    return likelihood, components


def _component(z: Array, weight: Array, total: float) -> Component:
    mass = max(float(weight.sum()), 1e-300)  # a component may die out
    mean = float(weight @ z) / mass
    variance = float(weight @ (z - mean) ** 2) / mass
    return Component(mean, max(math.sqrt(variance), FLOOR), mass / float(total))


def _log_density(x: Array, c: Component) -> Array:
    """log of weight * density."""
    return (
        math.log(c.weight / (c.deviation * math.sqrt(2 * math.pi))) - 0.5 * ((x - c.mean) / c.deviation) ** 2
    )
