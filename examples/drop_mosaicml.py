"""MosaicML's MDS without what a drop list names: python drop_mosaicml.py RUN DATASET NEW_DATASET"""

import json
import sys
from pathlib import Path

from streaming import MDSWriter
from streaming.base.format import reader_from_json

import clipscan


def rewrite(run: str, source: str, to: str, key: str = "key") -> tuple[int, int]:
    """Writes the samples to keep, in their order; (kept, of how many)."""
    keep = clipscan.DropList.load(run)
    shards = json.loads((Path(source) / "index.json").read_text())["shards"]
    columns = dict(zip(shards[0]["column_names"], shards[0]["column_encodings"], strict=True))
    kept = total = 0
    with MDSWriter(out=to, columns=columns, compression=shards[0]["compression"]) as out:
        for shard in shards:
            for sample in reader_from_json(source, None, shard):
                total += 1
                if sample[key] not in keep:
                    out.write(sample)
                    kept += 1
    return kept, total


if __name__ == "__main__":
    print("{} of {} samples kept".format(*rewrite(*sys.argv[1:4])))
