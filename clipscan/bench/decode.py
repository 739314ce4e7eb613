"""CPU time from the bytes of a JPEG to a model's pixels, by clipscan and by others: `clipscan bench decode`.

    clipscan     what `clipscan embed` does, in this process instead of a decoding process
    Pillow       open, convert to RGB, resize (bicubic), crop, as open_clip does; all are held against it
    draft        the same, but JPEGs are decoded at 1/2, 1/4 or 1/8 where twice the model's size remains
    simplejpeg, turbojpeg     decoded by these, the rest by Pillow; where they are installed
    opencv       decoded and resized (INTER_AREA) by opencv; where it is installed
    torchvision  decoded and resized (antialiased) by torchvision; where its operators load

The pictures are drawn to be like photographs: light at all scales, edges, grain. All ways take turns at every
picture, so that all see the same weather; each has one thread.
"""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, __version__

from clipscan.bench.decode_ways import Way, installed_ways
from clipscan.bench.rows import commit, grid, processor
from clipscan.bench.worker import Row
from clipscan.embed.pixels import PixelSpec
from clipscan.errors import InputError

SIZES = ((256, 256), (341, 256), (336, 336), (480, 360), (320, 480), (480, 480))
WEB: dict[str, Any] = {"quality": 85, "subsampling": 2}
FINE: dict[str, Any] = {"quality": 95, "subsampling": 0}
TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation, of which no way takes notice
# kind -> (sizes, mode, how Pillow saves it)
KINDS: dict[str, tuple[Sequence[tuple[int, int]], str, dict[str, Any]]] = {
    "q85 4:2:0": (SIZES, "RGB", WEB),
    "q95 4:4:4": (SIZES, "RGB", FINE),
    "progressive": (((480, 360),), "RGB", WEB | {"progressive": True}),
    "grey": (((480, 360),), "L", WEB),
    "CMYK": (((480, 360),), "CMYK", WEB),
    "EXIF": (((480, 360),), "RGB", WEB | {"exif": TURNED}),
}
LIGHT = (4, 9, 20, 48, 110)  # cells along a side, of each scale of light
GRAIN = 4  # levels

COLUMNS = (
    "date", "commit", "cpu", "pillow", "size", "kind", "width", "height", "kilobytes", "n", "rounds",
    "way", "version",
    "cpu_us",    # median CPU-microseconds a picture
    "speedup",   # Pillow's median / this one's
    "difference", "worst",  # from Pillow's pixels, in 8-bit levels: the mean of all, the largest of all
)  # fmt: skip
SHOWN = {
    "kind": "kind", "width": "width", "height": "height", "kilobytes": "kB", "way": "way", "cpu_us": "CPU-us",
    "speedup": "times Pillow", "difference": "mean difference", "worst": "worst",
}  # fmt: skip


@dataclass(frozen=True)
class DecodePlan:
    """`n` generated pictures of each kind to `size` x `size` pixels, `rounds` times."""

    size: int = 224
    n: int = 4
    rounds: int = 15

    def __post_init__(self) -> None:
        if min(self.size, self.n, self.rounds) < 1:
            raise InputError("size, n and rounds must be at least 1")


def measure_decoding(plan: DecodePlan, say: Callable[[str], None]) -> Iterator[Row]:
    """One row a kind, size and way; a way that cannot read a kind has none."""
    spec = PixelSpec(plan.size)
    ways = installed_ways(say)
    facts = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "commit": commit(), "cpu": processor(),
        "pillow": __version__, "size": plan.size, "n": plan.n, "rounds": plan.rounds,
    }  # fmt: skip
    for kind, (sizes, mode, options) in KINDS.items():
        for width, height in sizes:
            say(f"{kind}, {width} x {height}")
            pictures = [
                _saved(photograph(width, height, seed).convert(mode), options) for seed in range(plan.n)
            ]
            kilobytes = sum(map(len, pictures)) / plan.n / 1e3
            about = facts | {"kind": kind, "width": width, "height": height, "kilobytes": kilobytes}
            yield from (about | row for row in _compared(ways, pictures, spec, plan.rounds))


def _compared(ways: Sequence[Way], pictures: Sequence[bytes], spec: PixelSpec, rounds: int) -> Iterator[Row]:
    """What each way takes for these pictures, and how far its pixels are from Pillow's."""
    made = {way.name: [_levels(way, picture, spec) for picture in pictures] for way in ways}
    able = [way for way in ways if all(levels is not None for levels in made[way.name])]
    spent: dict[str, list[int]] = {way.name: [] for way in able}
    for _, picture, way in itertools.product(range(rounds), pictures, able):
        began = time.thread_time_ns()
        way.pixels(picture, spec)
        spent[way.name].append(time.thread_time_ns() - began)
    median = {name: float(np.median(times)) / 1e3 for name, times in spent.items()}
    exact = np.stack(made["Pillow"])  # type: ignore[arg-type]
    for way in able:
        off = np.abs(np.stack(made[way.name]) - exact)  # type: ignore[arg-type]
        yield {
            "way": way.name, "version": way.version, "cpu_us": median[way.name],
            "speedup": median["Pillow"] / median[way.name],
            "difference": float(off.mean()), "worst": int(off.max()),
        }  # fmt: skip


def _levels(way: Way, picture: bytes, spec: PixelSpec) -> NDArray[np.int16] | None:
    """[S * S * 3]; None where this way does not read such a picture."""
    try:
        return np.frombuffer(way.pixels(picture, spec), np.uint8).astype(np.int16)
    except Exception:  # each library has its own
        return None


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Light at all scales, about as much of each as nature has; a dozen edges; grain."""
    rng = np.random.default_rng(seed)
    levels = np.full((height, width, 3), 128.0)
    for cells in LIGHT:
        grey, colour = rng.normal(0, 1, (cells, cells, 1)), rng.normal(0, 0.4, (cells, cells, 3))
        for channel, light in enumerate(np.moveaxis((grey + colour).astype(np.float32), 2, 0)):
            soft = Image.fromarray(light).resize((width, height), Image.Resampling.BICUBIC)
            levels[..., channel] += np.asarray(soft) * 90 / cells**0.7
    picture = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, r = (int(rng.integers(low, high)) for low, high in ((0, width), (0, height), (5, width // 5)))
        colours = [tuple(map(int, rng.integers(0, 256, 3))) for _ in range(2)]
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colours[0])
        pen.rectangle((y, x, y + r, x + r), outline=colours[1])
    grained = np.asarray(picture, np.float32) + rng.normal(0, GRAIN, (height, width, 1))
    return Image.fromarray(grained.clip(0, 255).astype(np.uint8))


def _saved(picture: Image.Image, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def table(rows: Sequence[Row]) -> str:
    """What was measured, in words, and the rows below one another."""
    first = rows[0]
    said = (
        f"to {first['size']} x {first['size']} pixels; Pillow {first['pillow']}, a thread of {first['cpu']}\n"
        f"{first['n']} generated JPEGs of a kind, {first['rounds']} rounds; differences in 8-bit levels"
    )
    return f"{said}\n{grid(rows, SHOWN)}"
