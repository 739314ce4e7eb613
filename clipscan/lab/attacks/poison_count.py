"""How much poison a training takes for safe: the `watch` of `train_clip` where the truth is known."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipscan.lab.attacks.census import Identity
from clipscan.train.recipe import Remark, Watch


def count_poison(truth: Set[Identity]) -> Watch:
    """Remarks of each partition poison, poison_safe and poison_rate, that of the safe pairs.

    truth: the (shard, key) of the poisoned pairs.
    """

    def watch(identities: Sequence[Identity]) -> Remark:
        poisoned = np.array([identity in truth for identity in identities])  # [n]

        def remark(safe: NDArray[np.bool_]) -> tuple[dict[str, Any], str]:
            poison, hidden = int(poisoned.sum()), int(poisoned[safe].sum())
            rate = hidden / max(1, int(safe.sum()))
            words = f"{hidden:,} of {poison:,} poisoned ones among them ({rate:.3%})"
            return {"poison": poison, "poison_safe": hidden, "poison_rate": rate}, words

        return remark

    return watch
