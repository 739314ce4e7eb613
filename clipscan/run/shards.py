"""Going through the dataset of a run, a task a shard, with a model; what is finished is not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clipscan.data import Shard
from clipscan.run.earlier import Earlier
from clipscan.run.options import Encoding
from clipscan.run.precomputed import precomputed_vectors
from clipscan.run.progress import Progress, ShardMeter
from clipscan.run.run_folder import fingerprint

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder
    from clipscan.run.run import Run

Tick = Callable[[int], None]  # called with the number of further samples of the shard that are done


@contextmanager
def embedder(
    run: Run, encoder: Encoder | None, encoding: Encoding, untrained: bool = False
) -> Iterator[Callable[[Shard, Tick], Any]]:
    """Inside, a function (shard, tick) -> an Embedded; without an encoder, of the vectors that lie there.
    `untrained`: features of the pictures too, where there are any."""
    if encoder is None:
        yield lambda shard, tick: precomputed_vectors(run.dataset, shard)
        return
    from clipscan.embed.decode_pool import DecodePool
    from clipscan.embed.embed_shard import embed_samples

    with DecodePool(encoding.workers) as pool:
        yield lambda shard, tick: embed_samples(
            run.dataset.read(shard), encoder, pool,
            batch_size=encoding.batch_size, untrained=untrained, progress=tick,
        )  # fmt: skip


def each_shard(
    run: Run,
    stage: str,
    asked: dict[str, Any],
    progress: Progress,
    work: Callable[[int, Shard, Tick], dict[str, Any]],
) -> list[dict[str, Any]]:
    """The markers of a stage that goes through the dataset: work(number, shard, tick) for each shard that is
    not finished yet returns how many samples were `embedded` and how many are `bad`."""
    shards = run.dataset.shards
    meter = ShardMeter(progress, [shard.size for shard in shards])
    earlier = Earlier(run, stage)
    markers = []
    for number, shard in enumerate(shards):
        decided_by = fingerprint(asked, *shard[:1], *shard[2:], run.dataset.columns(shard))

        def task(number: int = number, shard: Shard = shard, decided_by: str = decided_by) -> dict[str, Any]:
            return earlier.bring(decided_by, number) or work(number, shard, meter.tick)

        marker = run.task(f"{stage}-{number:05d}", decided_by, task)
        markers.append(marker)
        meter.finish(marker["embedded"] + marker["bad"])
    return markers


def embed_settings(run: Run, encoder: Encoder | None, encoding: Encoding) -> dict[str, Any]:
    """All that decides the vectors, but the shards."""
    model: dict[str, Any] = {"model": "precomputed embeddings"}
    if encoder:
        model = encoder.describe() | {"batch_size": encoding.batch_size}
    opened = run.dataset.opened
    options = {name: value for name, value in opened.items() if name not in ("source", "format")}
    return model | {"format": run.dataset.format, "options": options}
