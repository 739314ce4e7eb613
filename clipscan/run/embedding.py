"""Stage 1: every shard of the dataset becomes float16 vectors, a metadata table and a list of bad samples.

Beside the vectors of its pictures lie untrained features (embed/untrained.py).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipscan.data import Bad, Dataset, Shard
from clipscan.data.sample import shown_kinds
from clipscan.errors import DataError, RunError
from clipscan.run.bad_reasons import commonest
from clipscan.run.changes import compare
from clipscan.run.digests import READ, shard_files
from clipscan.run.earlier import forget, put_aside
from clipscan.run.file_io import storable, write_array, write_table
from clipscan.run.listing import listed
from clipscan.run.markers import check_intact
from clipscan.run.options import Encoding
from clipscan.run.progress import Progress
from clipscan.run.run_folder import RunFolder
from clipscan.run.shards import Tick, each_shard, embed_settings, embedder

if TYPE_CHECKING:
    from clipscan.embed.model import Encoder
    from clipscan.run.run import Run

IDENTITY = ("shard", "key", "uid", "url", "sha256", "caption", "at")


def embed_stage(
    run: Run,
    encoder: Encoder | None,
    encoding: Encoding,
    progress: Progress,
    overwrite: bool = False,
) -> None:
    """Embed what is not embedded yet; `encoder` is None for precomputed embeddings.

    A shard is a task. Another dataset than that of an earlier call is refused unless `overwrite`, which
    embeds only shards that are new or changed. Raises DataError when not one sample could be read, naming the
    commonest reasons.
    """
    asked = embed_settings(run, encoder, encoding)
    _check_earlier(run, asked, overwrite)
    about = {"dataset": described(run.dataset), "opened": run.dataset.opened, "embed": asked}
    run.ask("embed", asked, overwrite, **about)
    run.forget_beyond(len(run.dataset.shards))
    progress.stage("embed", "images" if encoder else "rows")
    with embedder(run, encoder, encoding, untrained=True) as embedded:

        def work(number: int, shard: Shard, tick: Tick) -> dict[str, Any]:
            files = shard_files(run.dataset, shard)
            found = embedded(shard, tick)
            counts = _write(run, number, found, listed(run.dataset, shard, files, READ))
            return counts | {"passed_over": run.dataset.passed.get(shard.name, {})}

        done = each_shard(run, "embed", asked, progress, work)
    _finish(run, done)
    forget(run, "embed")
    _note_passed_over(run, done, progress)


def _note_passed_over(run: Run, done: list[dict[str, Any]], progress: Progress) -> None:
    members = sum((Counter(marker.get("passed_over", {})) for marker in done), Counter())
    run.update(passed_over={"members": sorted(members.items()), "files": sorted(run.dataset.beside.items())})
    if members:
        progress.note(passed_over(run)[0])


def passed_over(run: RunFolder) -> list[str]:
    """What lies in the dataset and belongs to no sample, in words: members of tars first, then files."""
    found = run.record.get("passed_over", {})
    words = {"members": "kept by apply: in tars", "files": "not copied by apply: beside the dataset"}
    shown = {name: shown_kinds(Counter(dict(found.get(name, ())))) for name in words}
    return [f"passed over, and {words[name]} {kinds}" for name, kinds in shown.items() if kinds]


def _check_earlier(run: Run, asked: dict[str, Any], overwrite: bool) -> None:
    """Compare the dataset with that of an earlier call. If it differs: RunError or, with `overwrite`, put
    aside what is still valid."""
    dataset, known = run.dataset, run.record.get("asked", {}).get("embed")
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


def described(dataset: Dataset) -> dict[str, Any]:
    """The dataset as run.json names it; `source` is what was typed, to show."""
    return {
        "source": dataset.source,
        "format": dataset.format,
        "shards": [shard.name for shard in dataset.shards],
    }


def _write(run: RunFolder, number: int, embedded: Any, files: pa.Table) -> dict[str, Any]:
    """The outputs of one shard; the metadata last, so that it stands for all of them."""
    if embedded.image is not None:
        write_array(run.image(number), embedded.image)
    if embedded.image is not None and embedded.text is not None:
        write_array(run.text(number), embedded.text)
    if embedded.untrained is not None:
        write_array(run.untrained_file(number), embedded.untrained)
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


def bad_table(bad: Sequence[Bad]) -> pa.Table:
    """Bad samples as shard, key, reason."""
    names = ("shard", "key", "reason")
    return pa.table(
        {name: pa.array([storable(getattr(b, name)) for b in bad], pa.string()) for name in names}
    )


def _finish(run: Run, markers: list[dict[str, Any]]) -> None:
    def work() -> dict[str, Any]:
        for name, part in (("bad", run.bad), ("listing", run.listing)):
            parts = [part(number) for number in range(len(run.dataset.shards))]
            check_intact(*parts)
            write_table(run / f"{name}.parquet", pa.concat_tables([pq.read_table(one) for one in parts]))
        return {}

    run.task("embed", run.contents("embed", "embeddings/bad", "embeddings/listing"), work)
    check_intact(run / "bad.parquet")
    bad = pq.read_table(run / "bad.parquet")
    embedded = sum(marker["embedded"] for marker in markers)
    run.update(counts={"listed": embedded + bad.num_rows, "embedded": embedded, "bad": bad.num_rows})
    if embedded == 0:
        reasons = commonest(bad["reason"].to_pylist())
        raise DataError(
            f"{run.dataset.describe()}: not one readable sample. "
            + (
                f"{bad.num_rows} were refused: {reasons.rstrip('.')}. See bad.parquet; "
                if reasons
                else "It is empty; "
            )
            + "--format, --image-key and --text-key say how to read it otherwise"
        )
