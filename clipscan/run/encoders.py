"""The models of a scan: the one under suspicion, the trusted one, and where the first came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clipscan.data import Dataset
from clipscan.errors import InputError
from clipscan.run.options import Encoding, Models

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder


def load_encoders(
    dataset: Dataset, models: Models, encoding: Encoding
) -> tuple[Encoder | None, Encoder | None]:
    """(the model under suspicion, None for precomputed embeddings; the trusted one, None where none is
    named). InputError if one is missing, has no pictures to encode, or if both are the same."""
    suspect = None
    if dataset.format != "embeddings":
        suspect = _load(models.model, models.pretrained, encoding)
    if not models.has_trusted:
        return suspect, None
    if suspect is None:
        raise InputError(
            f"a trusted model needs pictures and captions; {dataset.source} holds embeddings. "
            "Scan the dataset they were made from, or leave --trusted-model and --trusted-pretrained out"
        )
    trusted = _load(models.trusted_model, models.trusted_pretrained, encoding)
    if trusted.weights_hash == suspect.weights_hash:
        raise InputError(
            "the trusted model has the weights of the model under suspicion, whose own agreement is the "
            "score 'cosine'; name one that has not been trained on this data"
        )
    return suspect, trusted


def _load(model: str | None, pretrained: str | Path | None, encoding: Encoding) -> Encoder:
    if model is None and pretrained is None:
        raise InputError(
            "a dataset of pictures needs a model: --pretrained FILE (from `clipscan train`, an encoder "
            "that has seen this data) or --model NAME --pretrained TAG of open_clip"
        )
    from clipscan.embed.model import load_encoder

    return load_encoder(
        model, None if pretrained is None else str(pretrained),
        device=encoding.device, precision=encoding.precision, compile=encoding.compile,
    )  # fmt: skip


def encoder_place(model: str | None, pretrained: str | Path | None) -> dict[str, str | None]:
    """Where the model came from, for commands that load it again: `clipscan invert`, `clipscan heads`."""
    if pretrained is not None and Path(pretrained).is_file():
        pretrained = Path(pretrained).resolve()
    return {"model": model, "pretrained": None if pretrained is None else str(pretrained)}
