"""Pictures a second on the way into vectors, and which part of it holds up the rest: `clipscan bench embed`.

    encoder     the picture tower alone, on random pictures that lie on the device
    heads       the same as a sum over heads and MLPs (clipscan/heads), terms brought back; ViTs only
    captions    tokeniser and text tower alone
    decode      JPEG to pixels alone, in the decoding processes
    untrained   features that need no encoder (embed/untrained.py), of pictures of its size, on one thread
    end to end  a tar read, decoded and encoded, those features made, as `clipscan embed` does it; not written

The pictures are generated at the size of a web thumbnail; the weights are random, which costs the same.
"""

from __future__ import annotations

import io
import itertools
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from clipscan.bench.rows import commit, grid, processor, spread
from clipscan.bench.worker import Row, measure
from clipscan.data import Bad, Dataset, Sample, open_dataset
from clipscan.embed.decode_pool import DecodePool, decode_all
from clipscan.embed.embed_shard import embed_samples
from clipscan.embed.encoding_lanes import resident
from clipscan.embed.model import Encoder, untrained_encoder
from clipscan.embed.network import device_name
from clipscan.embed.untrained import untrained_features
from clipscan.errors import ClipscanError, InputError
from clipscan.heads.decompose import decompose
from clipscan.heads.tower import check_tower

SIZE = (400, 300)  # pixels: what img2dataset's small sets hold
DISTINCT = 128  # pictures; more would only take longer to draw
PICTURES = {"cpu": 128, "cuda": 8_192}  # by default: half a minute of ViT-B-32 a round on two cores
SHARE = 256  # pictures at least that each decoding process gets: half a second of work
WORDS = ("a", "the", "dog", "cat", "house", "blue", "sunset", "over", "park", "people", "photo", "mountain")

COLUMNS = (
    "date", "commit", "cpu", "device", "torch", "model", "precision", "compiled",
    "case", "n", "width", "height", "kilobytes",  # of a picture
    "batch_size", "workers", "rounds",
    "rate_p20", "rate_median", "rate_p80",  # pictures or captions a second
    "cpu_us",  # CPU-microseconds of the main process a picture, all its threads; decoding processes apart
)  # fmt: skip
SHOWN = {
    "case": "case",
    "rate_p20": "p20",
    "rate_median": "median",
    "rate_p80": "p80 a second",
    "cpu_us": "CPU-us here",
}

Case = Callable[[int], int]  # does its part for so many pictures; how many they were


@dataclass(frozen=True)
class EmbedPlan:
    """n generated pictures through a model of open_clip's, `rounds` counted times."""

    model: str = "ViT-B-32"
    n: int | None = None
    batch_size: int = 256
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    compile: bool = False
    rounds: int = 3

    def __post_init__(self) -> None:
        if min(1 if self.n is None else self.n, self.batch_size, self.rounds) < 1:
            raise InputError("n, batch size and rounds must be at least 1")


def measure_embedding(plan: EmbedPlan, say: Callable[[str], None]) -> Iterator[Row]:
    """One row a case, after the last round: the cases take turns, so that all see the same weather."""
    encoder = untrained_encoder(
        plan.model, device=plan.device, precision=plan.precision, compile=plan.compile
    )
    n = plan.n or PICTURES[encoder.device.partition(":")[0]]
    batch_size = min(plan.batch_size, n)
    samples = list(itertools.islice(generated(), n))
    with tempfile.TemporaryDirectory() as folder, DecodePool(plan.workers) as pool:
        write_tar(Path(folder) / "pictures.tar", samples)
        cases = parts(encoder, pool, samples, open_dataset(folder), batch_size)
        runs: dict[str, list[Row]] = {name: [] for name in cases}
        for name, case in cases.items():
            say(f"warming up: {name}")
            case(batch_size)
        for number, (name, case) in itertools.product(range(plan.rounds), cases.items()):
            wall, cpu, done = measure(lambda case=case: case(n))  # type: ignore[misc]
            runs[name].append({"rate": done / wall, "cpu_us": cpu / done * 1e6})
            say(f"round {number + 1} of {plan.rounds}, {name}: {wall:.1f} s")
        facts = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "commit": commit(),
            "cpu": processor(),
            "device": device_name(encoder.device),
            "torch": version("torch"),
            "model": encoder.name,
            "precision": encoder.precision,
            "compiled": int(encoder.compiled),
            "n": n,
            "width": SIZE[0],
            "height": SIZE[1],
            "kilobytes": sum(len(sample.image or b"") for sample in samples) / n / 1e3,
            "batch_size": batch_size,
            "workers": pool.workers,
            "rounds": plan.rounds,
        }
    for name, done in runs.items():
        cpu_us = float(np.median([run["cpu_us"] for run in done]))
        yield {**facts, "case": name, **spread(done, "rate"), "cpu_us": cpu_us}


def parts(
    encoder: Encoder, pool: DecodePool, samples: Sequence[Sample], dataset: Dataset, batch_size: int
) -> dict[str, Case]:
    """What is measured, by name."""
    shape = (batch_size, encoder.image_size, encoder.image_size, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def take_apart(times: int) -> None:
        for _ in range(times):
            decompose(encoder, noise)

    def untrained(times: int) -> None:
        for _ in range(times):
            untrained_features(list(noise))

    def whole(run: Callable[[int], None]) -> Case:
        """Of what runs so many full batches."""

        def case(count: int) -> int:
            times = -(-count // batch_size)
            run(times)
            return times * batch_size

        return case

    def captions(count: int) -> int:
        for start in range(0, count, batch_size):
            encoder.encode_texts([s.caption for s in samples[start : min(count, start + batch_size)]])
        return count

    def decode(count: int) -> int:
        count = max(count, SHARE * pool.workers)
        for one in decode_all(itertools.islice(itertools.cycle(samples), count), encoder.spec, pool):
            if isinstance(one, Bad):
                raise ClipscanError(f"a generated picture was not decoded: {one.reason}")
        return count

    def end_to_end(count: int) -> int:
        found = itertools.islice(dataset.read(dataset.shards[0]), count)
        if bad := embed_samples(found, encoder, pool, batch_size=batch_size, untrained=True).bad:
            raise ClipscanError(f"a generated picture was not embedded: {bad[0].reason}")
        return count

    towers = {"encoder": whole(resident(encoder, batch_size)), "heads": whole(take_apart)}
    try:
        check_tower(encoder)
    except InputError:  # this tower is no sum over heads
        del towers["heads"]
    beside = {"captions": captions, "decode": decode, "untrained": whole(untrained)}
    return towers | beside | {"end to end": end_to_end}


def generated(size: tuple[int, int] = SIZE) -> Iterator[Sample]:
    """Pairs without end: captions all different, JPEG pictures of `size` from a stock of DISTINCT."""
    rng = np.random.default_rng(0)
    stock = [_jpeg(rng, size) for _ in range(DISTINCT)]
    for i in itertools.count():
        caption = f"{' '.join(rng.choice(WORDS, 10))} {i}"
        yield Sample("pictures.tar", f"{i:09d}", stock[i % DISTINCT], caption)


def _jpeg(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
    """Soft shapes under grain: about 0.25 bytes a pixel, as photographs of that size have."""
    shapes = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    soft = np.asarray(shapes.resize(size, Image.Resampling.BICUBIC), np.int16)
    grain = rng.normal(0, 6, (*soft.shape[:2], 1)).astype(np.int16)
    file = io.BytesIO()
    Image.fromarray((soft + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def write_tar(path: Path, samples: Sequence[Sample]) -> None:
    """As img2dataset would: KEY.jpg, KEY.txt."""
    with tarfile.open(path, "w") as tar:
        for sample in samples:
            for kind, content in (("jpg", sample.image or b""), ("txt", sample.caption.encode())):
                header = tarfile.TarInfo(f"{sample.key}.{kind}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))


def table(rows: Sequence[Row]) -> str:
    """What was measured, in words, and the rows below one another."""
    first = rows[0]
    compiled = ", compiled" if first["compiled"] else ""
    said = (
        f"{first['model']}, {first['precision']}{compiled}, on {first['device']}; torch {first['torch']}; "
        f"{first['workers']} decoding processes on {first['cpu']}\n"
        f"{first['n']:,} JPEG pictures of {first['width']} x {first['height']}, "
        f"{first['kilobytes']:.0f} kB each, batches of {first['batch_size']}; {first['rounds']} rounds"
    )
    return f"{said}\n{grid(rows, SHOWN)}"
