"""Stage 1: every shard of the dataset becomes float16 vectors, a metadata table and a list of bad samples.

Beside the vectors of its pictures lie features that no training had a part in (embed/untrained.py).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data import Bad, Dataset, Sample, Shard
from clipscan.data.sample import shown_kinds
from clipscan.data.text import printable
from clipscan.engine import Rows, as_rows, bad_rows
from clipscan.errors import DataError, RunError
from clipscan.run.earlier import Earlier, forget, put_aside
from clipscan.run.files import storable, write_array, write_table
from clipscan.run.folder import RunFolder, fingerprint
from clipscan.run.listing import READ, Listing, compare, files_of, listed
from clipscan.run.outputs import rows_in, sound
from clipscan.run.progress import Progress, ShardMeter
from clipscan.run.words import commonest

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder

Tick = Callable[[int], None]  # told how many more samples of the shard are done
IDENTITY = ("shard", "key", "uid", "url", "sha256", "caption", "at")
UNFIT = "its embedding is not finite, or its norm is above 3e18, which float32 distances cannot carry"


def embed_stage(
    run: RunFolder,
    dataset: Dataset,
    encoder: Encoder | None,
    progress: Progress,
    *,
    batch_size: int = 256,
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Embed what is not embedded yet; `encoder` is None for precomputed embeddings.

    A shard is a task. Another dataset than that of an earlier call is refused unless `overwrite`, which
    embeds only shards that are new or changed. Raises DataError when not one sample could be read, naming the
    commonest reasons.
    """
    asked = settings(dataset, encoder, batch_size)
    _welcome(run, dataset, asked, overwrite)
    about = {"dataset": described(dataset), "opened": dataset.opened, "embed": asked}
    run.ask("embed", asked, overwrite, **about)
    run.forget_beyond(len(dataset.shards))
    progress.stage("embed", "images" if encoder else "rows")
    with embedder(dataset, encoder, batch_size, workers, untrained=True) as embedded:

        def work(number: int, shard: Shard, tick: Tick) -> dict[str, Any]:
            files = files_of(dataset, shard)
            found = embedded(shard, tick)
            counts = _write(run, number, found, listed(dataset, shard, files, READ))
            return counts | {"passed_over": dataset.passed.get(shard.name, {})}

        done = each_shard(run, dataset, "embed", asked, progress, work)
    _finish(run, dataset, done)
    forget(run, "embed")
    _note_passed_over(run, dataset, done, progress)


def _note_passed_over(
    run: RunFolder, dataset: Dataset, done: list[dict[str, Any]], progress: Progress
) -> None:
    members = sum((Counter(marker.get("passed_over", {})) for marker in done), Counter())
    run.update(passed_over={"members": sorted(members.items()), "files": sorted(dataset.beside.items())})
    if members:
        progress.note(passed_over(run)[0])


def passed_over(run: RunFolder) -> list[str]:
    """What lies in the dataset and belongs to no sample, in words: members of tars first, then files."""
    found = run.record.get("passed_over", {})
    words = {"members": "kept by apply: in tars", "files": "not copied by apply: beside the dataset"}
    shown = {name: shown_kinds(Counter(dict(found.get(name, ())))) for name in words}
    return [f"passed over, and {words[name]} {kinds}" for name, kinds in shown.items() if kinds]


def _welcome(run: RunFolder, dataset: Dataset, asked: dict[str, Any], overwrite: bool) -> None:
    """Compare with what an earlier call saw; where it differs, RunError, or put aside what is still right."""
    known = run.record.get("asked", {}).get("embed")
    if known is None or known.get("format") != dataset.format or not (changes := compare(run, dataset)):
        return
    if not overwrite:
        raise RunError(
            f"{dataset.source} is no longer the dataset that {run.path} was made from: {changes.words()}. "
            "Use another --out, or --overwrite: then shards that are the same are not embedded again, and "
            "what depends on all is redone"
        )
    if known == json.loads(json.dumps(asked)):
        put_aside(run, changes.same)
    run.clear("embed")


@contextmanager
def embedder(
    dataset: Dataset, encoder: Encoder | None, batch_size: int, workers: int | None, untrained: bool = False
) -> Iterator[Callable[[Shard, Tick], Any]]:
    """Inside, a function (shard, tick) -> an Embedded; without an encoder, of the vectors that lie there.
    `untrained` asks for features of the pictures, where there are any, as well."""
    if encoder is None:
        yield lambda shard, tick: _precomputed(dataset, shard)
        return
    from clipscan.embed.decode import DecodePool
    from clipscan.embed.embed import embed_samples

    with DecodePool(workers) as pool:
        yield lambda shard, tick: embed_samples(
            dataset.read(shard), encoder, pool, batch_size=batch_size, untrained=untrained, progress=tick
        )


def settings(dataset: Dataset, encoder: Encoder | None, batch_size: int) -> dict[str, Any]:
    """All that decides the vectors, but the shards."""
    model = (
        encoder.describe() | {"batch_size": batch_size} if encoder else {"model": "precomputed embeddings"}
    )
    options = {name: value for name, value in dataset.opened.items() if name not in ("source", "format")}
    return model | {"format": dataset.format, "options": options}


def encoder_place(model: str | None, pretrained: str | Path | None) -> dict[str, str | None]:
    """Where the model came from, for those who need it again: `clipscan invert`, `clipscan heads`."""
    if pretrained is not None and Path(pretrained).is_file():
        pretrained = Path(pretrained).resolve()
    return {"model": model, "pretrained": None if pretrained is None else str(pretrained)}


def described(dataset: Dataset) -> dict[str, Any]:
    """The dataset as run.json names it; `source` is what was typed, to show."""
    return {
        "source": dataset.source,
        "format": dataset.format,
        "shards": [shard.name for shard in dataset.shards],
    }


def vectors(
    run: RunFolder, dataset: Dataset | None, deep: bool = True
) -> tuple[Rows, Rows | None, list[int]]:
    """(image rows, caption rows or None, rows of each shard) of a finished embed stage, memory-mapped.

    Damaged where they are not what the stage wrote, DataError where the dataset's own are not what was
    scanned; where nothing may be derived, `deep` can wait.
    """
    images: list[Any] = []
    texts: list[Any] = []
    counts: list[int] = []
    rows = shard_rows(run)
    listing: Listing | None = None
    sound(*(path for shard in range(len(rows)) for path in (run.image(shard), run.text(shard))), deep=deep)
    for shard, count in enumerate(rows):
        if count == 0:  # bad as a whole: there is nothing to open
            counts.append(0)
            continue
        if run.image(shard).exists():
            image = np.load(run.image(shard), mmap_mode="r", allow_pickle=False)
            text = (
                np.load(run.text(shard), mmap_mode="r", allow_pickle=False)
                if run.text(shard).exists()
                else None
            )
        elif dataset is None:
            raise RunError(f"{run.path} was made from embeddings that lie in the dataset; it has to be open")
        else:
            if deep:
                listing = listing or Listing(run)
                listing.verify(dataset, dataset.shards[shard], READ)
            found = dataset.vectors(dataset.shards[shard])
            image, text = found.image, found.text
        _check_rows(shard, image, "vectors", count)
        images.append(image)
        texts.append(text)
        counts.append(count)
    full = [text for text in texts if text is not None]
    return (
        as_rows([image for image in images if len(image)], "image embeddings"),
        as_rows([text for text in full if len(text)], "caption embeddings")
        if len(full) == len(images)
        else None,
        counts,
    )


def untrained(run: RunFolder, deep: bool = True) -> Rows | None:
    """Untrained features [n, 688] of a finished embed stage, memory-mapped, in the order of the vectors.

    None where a shard has none: vectors that were given, not made of pictures here, and shards that a
    clipscan embedded which did not make them yet. Damaged where they are not what the stage wrote; `deep` as
    for the vectors.
    """
    filled = [(shard, count) for shard, count in enumerate(shard_rows(run)) if count]
    sound(*(run.untrained(shard) for shard, _ in filled), deep=deep)
    if not filled or not all(run.untrained(shard).exists() for shard, _ in filled):
        return None
    parts = []
    for shard, count in filled:
        part = np.load(run.untrained(shard), mmap_mode="r", allow_pickle=False)
        _check_rows(shard, part, "rows of untrained features", count)
        parts.append(part)
    return as_rows(parts, "untrained features")


def _check_rows(shard: int, rows: Any, what: str, count: int) -> None:
    if len(rows) != count:
        raise RunError(f"shard {shard} has {len(rows)} {what} and {count} rows of metadata; embed it again")


def shard_rows(run: RunFolder) -> list[int]:
    """Embedded samples of each shard."""
    shards = run.record.get("dataset", {}).get("shards", [])
    paths = [run.metadata(shard) for shard in range(len(shards))]
    sound(*paths, deep=False)
    if not paths or not all(path.exists() for path in paths):
        raise RunError(
            f"{run.path} is not embedded to its end; run clipscan embed or scan with --out {run.path}"
        )
    return [rows_in(path) for path in paths]


def metadata(run: RunFolder, columns: Sequence[str]) -> pa.Table:
    """These columns of all embedded samples, in the order of the vectors."""
    paths = [run.metadata(shard) for shard in range(len(shard_rows(run)))]
    sound(*paths)
    return pa.concat_tables([pq.read_table(path, columns=list(columns)) for path in paths])


def each_shard(
    run: RunFolder,
    dataset: Dataset,
    stage: str,
    asked: dict[str, Any],
    progress: Progress,
    work: Callable[[int, Shard, Tick], dict[str, Any]],
) -> list[dict[str, Any]]:
    """The markers of a stage that goes through the dataset: work(number, shard, tick) for each shard that is
    not finished yet returns how many samples were `embedded` and how many are `bad`."""
    meter = ShardMeter(progress, [shard.size for shard in dataset.shards])
    earlier = Earlier(run, stage)
    markers = []
    for number, shard in enumerate(dataset.shards):
        decided_by = fingerprint(asked, *shard[:1], *shard[2:], dataset.columns(shard))

        def task(number: int = number, shard: Shard = shard, decided_by: str = decided_by) -> dict[str, Any]:
            return earlier.bring(decided_by, number) or work(number, shard, meter.tick)

        marker = run.task(f"{stage}-{number:05d}", decided_by, task)
        markers.append(marker)
        meter.finish(marker["embedded"] + marker["bad"])
    return markers


def _write(run: RunFolder, number: int, embedded: Any, files: pa.Table) -> dict[str, Any]:
    """The outputs of one shard; the metadata last, so that it stands for all of them."""
    if embedded.image is not None:
        write_array(run.image(number), embedded.image)
    if embedded.image is not None and embedded.text is not None:
        write_array(run.text(number), embedded.text)
    if embedded.untrained is not None:
        write_array(run.untrained(number), embedded.untrained)
    write_table(run.bad(number), bad_table(embedded.bad))
    write_table(run.listing(number), files)
    columns: dict[str, Any] = {
        name: [storable(getattr(sample, name)) for sample in embedded.samples] for name in IDENTITY
    }
    types = [pa.string()] * 6 + [pa.int64()]
    table = pa.table(
        {name: pa.array(columns[name], type) for name, type in zip(IDENTITY, types, strict=True)}
    )
    for name in ("image_norm", "text_norm"):
        norm = getattr(embedded, name)
        if norm is not None:
            table = table.append_column(name, pa.array(norm, pa.float32()))
    write_table(run.metadata(number), table)
    return {"embedded": len(embedded.samples), "bad": len(embedded.bad)}


class _Given:
    """A shard of precomputed vectors, shaped like an Embedded; arrays are None where they stay in place."""

    def __init__(self, image: Any, text: Any, samples: list[Sample], bad: list[Bad], moved: bool) -> None:
        self.image: Any = image if moved else None
        self.text: Any = text if moved else None
        self.untrained = None  # there is no picture to make them of
        self.image_norm = _norms(image)
        self.text_norm = _norms(text)
        self.samples, self.bad = samples, bad


def _precomputed(dataset: Dataset, shard: Shard) -> _Given:
    """Vectors stay where they are, unless some rows are no vectors: those are bad, and the rest is copied.

    Files that cannot be read or paired, or are of another width than most, are bad as a whole.
    """
    try:
        image, text, samples, broken = dataset.vectors(shard)
    except DataError as error:
        return _Given(None, None, [], [Bad(shard.name, "", printable(str(error)))], moved=False)
    bad = dict.fromkeys(_unfit(image), UNFIT)
    if text is not None:
        bad |= dict.fromkeys(_unfit(text), f"of its caption, {UNFIT}")
    if not bad:
        return _Given(image, text, samples, [], moved=False)
    bad |= broken  # rows of NaN, and why
    fit = np.ones(len(samples), bool)
    fit[list(bad)] = False
    refused = [Bad(samples[row].shard, samples[row].key, bad[row]) for row in sorted(bad)]
    good = [sample for row, sample in enumerate(samples) if fit[row]]
    return _Given(image[fit], None if text is None else text[fit], good, refused, moved=True)


def _unfit(rows: Any) -> list[int]:
    """Numbers of the rows that the search would refuse."""
    return bad_rows(as_rows(rows)).tolist()  # type: ignore[no-any-return]


def _norms(rows: Any) -> Any:
    if rows is None:
        return None
    blocks = [np.linalg.norm(block, axis=1) for _, block in as_rows(rows).blocks()]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def bad_table(bad: Sequence[Bad]) -> pa.Table:
    """Bad samples as shard, key, reason."""
    names = ("shard", "key", "reason")
    return pa.table(
        {name: pa.array([storable(getattr(b, name)) for b in bad], pa.string()) for name in names}
    )


def _finish(run: RunFolder, dataset: Dataset, markers: list[dict[str, Any]]) -> None:
    def work() -> dict[str, Any]:
        for name, part in (("bad", run.bad), ("listing", run.listing)):
            parts = [part(number) for number in range(len(dataset.shards))]
            sound(*parts)
            write_table(run / f"{name}.parquet", pa.concat_tables([pq.read_table(one) for one in parts]))
        return {}

    run.task("embed", run.contents("embed", "embeddings/bad", "embeddings/listing"), work)
    sound(run / "bad.parquet")
    bad = pq.read_table(run / "bad.parquet")
    embedded = sum(marker["embedded"] for marker in markers)
    run.update(counts={"listed": embedded + bad.num_rows, "embedded": embedded, "bad": bad.num_rows})
    if embedded == 0:
        reasons = commonest(bad["reason"].to_pylist())
        raise DataError(
            f"{dataset.describe()}: not one readable sample. "
            + (
                f"{bad.num_rows} were refused: {reasons.rstrip('.')}. See bad.parquet; "
                if reasons
                else "It is empty; "
            )
            + "--format, --image-key and --text-key say how to read it otherwise"
        )
