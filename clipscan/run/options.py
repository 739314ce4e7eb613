"""The options of a scan, as values; each default of `clipscan.scan` and of the commands stands here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipscan.data import Dataset, open_dataset
from clipscan.engine import choose
from clipscan.errors import InputError
from clipscan.scores import METHODS
from clipscan.scores.references import Scale, check_seed, parse_scales
from clipscan.scores.renamed import warn_if_renamed
from clipscan.scores.table import ELSEWHERE


@dataclass(frozen=True)
class Reading:
    """How a dataset is read; see clipscan.data.open_dataset."""

    format: str = "auto"
    image_key: str | None = None
    text_key: str | None = None
    roots: Sequence[str | Path] = ()
    quoting: str = "csv"

    def open(self, source: str | Path | Sequence[str | Path]) -> Dataset:
        """The dataset. Raises as open_dataset does."""
        return open_dataset(source, **vars(self))


@dataclass(frozen=True)
class Models:
    """The model under suspicion and a trusted one: names and tags of open_clip, or checkpoint files."""

    model: str | None = None
    pretrained: str | Path | None = None
    trusted_model: str | None = None
    trusted_pretrained: str | Path | None = None

    @property
    def has_trusted(self) -> bool:
        return self.trusted_model is not None or self.trusted_pretrained is not None


@dataclass(frozen=True)
class Encoding:
    """How models make vectors of pictures and captions."""

    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    batch_size: int = 256
    workers: int | None = None


@dataclass(frozen=True)
class Ranking:
    """What samples are ranked by, and how many are suspects: the share `fraction`, or None for an estimate.
    `method` ranks; all other scores that cost little are computed beside it."""

    method: str = "consensus"
    k: int = 16
    reference: str = "1024x8"
    against: str = "image"
    fraction: float | None = None
    graph: str = "auto"  # auto | yes | no
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", warn_if_renamed(self.method, stacklevel=3))

    def recorded(self) -> dict[str, Any]:
        """The settings that decide the scores."""
        return {name: getattr(self, name) for name in ("method", "k", "reference", "against", "seed")}

    @property
    def scales(self) -> list[Scale]:
        return parse_scales(self.reference)

    def check(self, compute: Compute) -> None:
        """InputError or BackendError for what no run could serve, before anything is computed."""
        if self.method not in (known := (*METHODS, *ELSEWHERE)):
            raise InputError(f"no score {self.method!r}; there are: {', '.join(known)}")
        if self.k < 1:
            raise InputError(f"k must be at least 1, got k={self.k}")
        if self.graph not in ("auto", "yes", "no"):
            raise InputError(f"graph={self.graph!r} must be auto, yes or no")
        if self.against not in ("image", "image+text"):
            raise InputError(f"against={self.against!r} must be 'image' or 'image+text'")
        check_seed(self.seed)
        compute.chosen(self.k)
        parse_scales(self.reference)
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise InputError(
                f"fraction={self.fraction} must be a share of the samples, above 0 and at most 1"
            )


@dataclass(frozen=True)
class Compute:
    """Back-end and resources of the search; no result depends on them. max_memory: bytes, on each device."""

    backend: str = "auto"
    devices: str = "auto"
    threads: int | None = None
    max_memory: int | None = None

    def chosen(self, k: int) -> str:
        """The back-end that a search for k neighbours gets. BackendError where it cannot serve."""
        return choose(self.backend, k, 1, self.devices)[0]
