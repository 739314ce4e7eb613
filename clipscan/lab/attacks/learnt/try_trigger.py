"""Try a learnt trigger on pictures that it was not learnt from, with the surrogate it was learnt against.

Pictures go the way of poison: file, pixels, trigger, file of the same compression, decoder, encoder; and
once more without loss, which shows what compression takes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipscan.data import Sample
from clipscan.data.redraw import Pixels, encode, redraw
from clipscan.embed.decode_pool import DecodePool, decode_all
from clipscan.embed.model import Encoder
from clipscan.engine.arrays import normalised
from clipscan.errors import DataError
from clipscan.lab.attacks.learnt.learnt_triggers import badclip, blto
from clipscan.lab.attacks.learnt.material import Material
from clipscan.lab.attacks.prompts import PROMPTS

TRIGGERS = {"blto": blto, "badclip": badclip}


class TriggerFigures(NamedTuple):
    """Of one set of pictures. success: share of which the target's prompts are chosen before all captions of
    the pictures tried; text, image: mean cosine to the target's text, and to the mean vector of its own
    pictures; length: mean, of vectors, those of its own pictures being 1 (NaN where it has none)."""

    success: float
    text: float
    image: float
    length: float


class TriggerTrial(NamedTuple):
    """What the trigger does. change: mean absolute, of 255, of pixels that the encoder sees, compressed;
    largest: of 255, before compression; own: the target's own pictures, whose success is not asked."""

    pictures: int
    clean: TriggerFigures
    compressed: TriggerFigures
    lossless: TriggerFigures
    own: TriggerFigures
    change: float
    largest: int


def try_trigger(file: Path, attack: str, encoder: Encoder, material: Material, target: str) -> TriggerTrial:
    """Try it on material.held_out. DataError when none of them can be changed (no JPEG, PNG or WebP)."""
    clean, compressed, lossless, largest = _marked(file, attack, material)
    captions = list(dict.fromkeys(sample.caption for sample in material.held_out))
    prompts = [prompt.format(target) for prompt in PROMPTS]
    texts = normalised(encoder.encode_texts([*prompts, *captions]))
    own = encoder.encode_images(material.pixels[material.own]) if material.own.any() else None
    seen = [_decoded(encoder, files) for files in (clean, compressed, lossless)]
    first, second, third = (_measure(encoder.encode_images(pixels), texts, own) for pixels in seen)
    ideal = TriggerFigures(*[math.nan] * 4) if own is None else _measure(own, texts, own)
    change = float(np.abs(seen[1].astype(int) - seen[0]).mean())
    return TriggerTrial(len(clean), first, second, third, ideal._replace(success=math.nan), change, largest)


def _marked(file: Path, attack: str, material: Material) -> tuple[list[bytes], list[bytes], list[bytes], int]:
    """(files as they were, with the trigger, with the trigger and saved without loss, largest change)."""
    clean, compressed, lossless, largest = [], [], [], 0
    for row, sample in enumerate(material.held_out):
        shown: list[tuple[Pixels, Pixels]] = []

        def mark(picture: Pixels, row: int = row, shown: list[tuple[Pixels, Pixels]] = shown) -> Pixels:
            marked = TRIGGERS[attack](picture, Random(f"clipscan trial {row}"), file=str(file))
            shown.append((picture, marked))
            return marked

        try:
            compressed.append(redraw(sample.image or b"", mark))
        except DataError as error:
            reason = str(error)
            continue
        clean.append(sample.image or b"")
        ((before, after),) = shown
        lossless.append(encode(after, "PNG"))
        largest = max(largest, int(np.abs(after.astype(int) - before).max()))
    if not clean:
        raise DataError(f"a trigger can be planted in none of the pictures kept apart: {reason}")
    return clean, compressed, lossless, largest


def describe(trial: TriggerTrial, target: str) -> str:
    """The trial as a small table."""
    heads = (f"called {target!r}", "cosine to its text", "to its pictures' centre", "length of vector")
    rows = {
        "without the trigger": trial.clean,
        "with it, compressed": trial.compressed,
        "with it, lossless": trial.lossless,
        "the target's own": trial.own,
    }
    lines = [
        f"on {trial.pictures:,} pictures kept apart, with the surrogate as it was given; mean change "
        f"{trial.change:.2f} of 255 (largest, before compression, {trial.largest}):",
        " " * 22 + "  ".join(heads),
    ]
    for name, figures in rows.items():
        cells = (f"{value:.3f}".rjust(len(head)) for value, head in zip(figures, heads, strict=True))
        lines.append(f"  {name:20}" + "  ".join(cells))
    return "\n".join(lines)


Floats = NDArray[np.float32]


def _measure(image: Floats, texts: Floats, own: Floats | None) -> TriggerFigures:
    """Of vectors [n, width]; texts: the prompts, then all captions; own: vectors of the target's pictures."""
    cosine = normalised(image) @ texts.T
    count = len(PROMPTS)
    success = float((cosine[:, :count].max(1) > cosine[:, count:].max(1)).mean())
    text = float((normalised(image) @ normalised(texts[:count].mean(0))).mean())
    if own is None:
        return TriggerFigures(success, text, math.nan, math.nan)
    length = float(np.linalg.norm(image, axis=1).mean() / np.linalg.norm(own, axis=1).mean())
    return TriggerFigures(success, text, float((normalised(image) @ _centre(own)).mean()), length)


def _centre(vectors: Floats) -> Floats:
    return normalised(normalised(vectors).mean(0))


def _decoded(encoder: Encoder, files: Sequence[bytes]) -> NDArray[np.uint8]:
    samples = [Sample("trial", str(row), data, "") for row, data in enumerate(files)]
    with DecodePool() as pool:
        return np.stack([one[1] for one in decode_all(samples, encoder.spec, pool) if isinstance(one, tuple)])
