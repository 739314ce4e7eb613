"""Samples on their way through a decomposition, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from clipscan.data import Bad, Sample
from clipscan.embed.decode_pool import Decoded, DecodePool, decode_all
from clipscan.embed.embed_shard import batched
from clipscan.embed.model import Encoder
from clipscan.heads.decompose import Terms, decompose

BATCH = 64  # pictures; one of ViT-B has 157 terms of 768 numbers, half a megabyte
NO_TERMS = "the model gave this picture a vector that is not finite, or zero"


class TermBatch(NamedTuple):
    """Row i of the terms belongs to samples[i], whose picture's bytes are gone."""

    samples: list[Sample]
    bad: list[Bad]
    terms: Terms | None  # None where there is no sample


def read_terms(
    samples: Iterable[Sample | Bad], encoder: Encoder, pool: DecodePool, batch_size: int = BATCH
) -> Iterator[TermBatch]:
    """The samples in order, batch by batch; what cannot be decoded, or has no finite terms, is bad there."""
    for batch in batched(decode_all(samples, encoder.spec, pool), batch_size):
        good = [one for one in batch if not isinstance(one, Bad)]
        bad = [one for one in batch if isinstance(one, Bad)]
        yield _taken_apart(good, bad, encoder) if good else TermBatch([], bad, None)


def _taken_apart(good: list[Decoded], bad: list[Bad], encoder: Encoder) -> TermBatch:
    terms = decompose(encoder, np.stack([pixels for _, pixels in good]))
    finite = np.isfinite(terms.blocks).all(axis=(1, 2, 3)) & np.isfinite(terms.initial).all(axis=1)
    samples = [replace(sample, image=None) for sample, _ in good]
    bad = bad + [Bad(samples[i].shard, samples[i].key, NO_TERMS) for i in np.flatnonzero(~finite)]
    if not finite.any():
        return TermBatch([], bad, None)
    kept = Terms(terms.initial[finite], terms.blocks[finite], terms.length[finite])
    return TermBatch([samples[i] for i in np.flatnonzero(finite)], bad, kept)
