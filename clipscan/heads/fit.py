"""A Fit from a clean dataset: which pictures make the prototypes, which the thresholds, and what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

import clipscan
from clipscan.data import Bad, Dataset, Sample
from clipscan.errors import DataError, InputError
from clipscan.heads.calibrate import calibrate, needed, prototypes
from clipscan.heads.decompose import Floats, Terms
from clipscan.heads.read_terms import BATCH, read_terms
from clipscan.heads.statistics import Doubles, Fit, align
from clipscan.heads.tower import check_tower
from clipscan.run import Progress, Silent

if TYPE_CHECKING:
    from clipscan.embed.decode_pool import DecodePool
    from clipscan.embed.model import Encoder

RATE = 0.01
LIMIT = 10_000  # clean pictures: half of them set the threshold, and of 5,000 a rate of 1 % passes 50


def fit_heads(
    encoder: Encoder,
    clean: Dataset,
    *,
    rate: float = RATE,
    limit: int = LIMIT,
    batch_size: int = BATCH,
    workers: int | None = None,
    place: dict[str, str | None] | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Prototypes and thresholds from the first `limit` samples of a dataset without triggers.

    Every second picture makes the prototypes and goes through the model twice; all others set floors and
    threshold, so that of fresh clean pictures of the same kind at most the share `rate` is flagged, in the
    mean over such datasets (calibrate.py). Pictures that occur twice, once in either half, make the
    thresholds too strict. place: where the encoder came from, for those who read the fit.

    InputError for a model without decomposition or a dataset without pictures, DataError where too few can
    be decoded, saying how many are needed.
    """
    from clipscan.embed.decode_pool import DecodePool

    check_tower(encoder)
    least = needed(rate)
    if limit < least:
        raise InputError(
            f"limit={limit} pictures are too few; a false-alarm rate of {rate:g} needs {least:,}"
        )
    refuse_vectors(clean)
    progress = progress or Silent()
    settings = {
        "clipscan": clipscan.__version__,
        "encoder": identity(encoder),
        "place": place or {"model": None, "pretrained": None},
        "source": clean.source,
        "rate": rate,
    }
    with DecodePool(workers) as pool:
        passes = _Passes(encoder, clean, limit, pool, batch_size, progress)
        try:
            progress.stage("prototypes", "images")
            prototype = prototypes(passes.terms(0))
            progress.stage("units", "images")
            makers = passes.alignments(0, prototype)
            progress.stage("thresholds", "images")
            others = passes.alignments(1, prototype)
            settings["pictures"] = [len(makers), len(others)]
            return calibrate(prototype, makers, others, rate, settings)
        except DataError as error:
            raise DataError(f"{clean.source}: {error}") from error


@dataclass(frozen=True)
class _Passes:
    """The ways through a clean dataset: of every second sample, beginning with the first or the second."""

    encoder: Encoder
    clean: Dataset
    limit: int
    pool: DecodePool
    batch_size: int
    progress: Progress

    def terms(self, half: int) -> Iterator[Terms]:
        done = 0
        for batch in read_terms(self._samples(half), self.encoder, self.pool, self.batch_size):
            done += len(batch.samples) + len(batch.bad)
            self.progress.advance(done, None)
            if batch.terms is not None:
                yield batch.terms

    def alignments(self, half: int, prototype: Floats) -> Doubles:
        """[n, L, H + 1], of the n pictures of a half that can be decoded."""
        parts = [align(terms, prototype) for terms in self.terms(half)]
        return np.concatenate(parts) if parts else np.empty((0, *prototype.shape[:2]))

    def _samples(self, half: int) -> Iterable[Sample | Bad]:
        every = chain.from_iterable(map(self.clean.read, self.clean.shards))
        return islice(every, half, self.limit, 2)


def refuse_vectors(dataset: Dataset) -> None:
    """InputError for a dataset of precomputed embeddings."""
    if dataset.format == "embeddings":
        raise InputError(
            f"{dataset.source} holds embeddings, and heads are seen in pictures only: name the dataset "
            "that they were made from"
        )


def identity(encoder: Encoder) -> dict[str, Any]:
    """All of the encoder that decides its terms; the device it runs on does not."""
    return {name: value for name, value in encoder.describe().items() if name not in ("device", "compiled")}


def check_same(fit: Fit, encoder: Encoder) -> None:
    """InputError unless the fit was made with this encoder, which check_tower has let through."""
    told, here = fit.settings["encoder"], identity(encoder)
    if told != here:
        names = sorted(name for name in told | here if told.get(name) != here.get(name))
        differences = "; ".join(f"{n}: {told.get(n)!r} in the fit, {here.get(n)!r} here" for n in names)
        raise InputError(
            f"this fit belongs to another encoder ({differences}). Name the one it was made with, or fit "
            "anew: clipscan heads fit CLEAN_DATASET --out FILE"
        )
    blocks: Any = encoder.model.visual.transformer.resblocks  # type: ignore[union-attr]
    shape = (len(blocks), blocks[0].attn.num_heads + 1, encoder.width)
    if fit.prototype.shape != shape:
        raise InputError(
            f"the fit's prototypes are {fit.prototype.shape}, where {encoder.name} has {shape} blocks, terms "
            "and components: fit anew: clipscan heads fit CLEAN_DATASET --out FILE"
        )
