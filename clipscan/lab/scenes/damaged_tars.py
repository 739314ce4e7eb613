"""What a crawl brings home besides pairs: broken files, hostile captions, an archive cut off.

Two more tars for a dataset of scenes, so that the demo shows what a scan makes of them.
"""

from __future__ import annotations

import os
import struct
import zlib
from itertools import chain
from pathlib import Path

from clipscan.data import Sample
from clipscan.data.atomic import replacing
from clipscan.data.tar_writer import members, write_members, write_tar
from clipscan.lab.scenes.dataset import Scenes

GOOD = 40  # scenes beside the broken ones in each of the two tars
CUT = 0.6  # of the second tar this part remains


def add_blemishes(folder: Path, number: int, *, seed: int = 0) -> list[str]:
    """Write tars `number` and `number` + 1 into `folder`, if they are not there; says what is in them."""
    damaged, last = folder / f"{number:05d}.tar", folder / f"{number + 1:05d}.tar"
    scenes = Scenes(2 * GOOD, seed=seed + 1_000_003, per_shard=GOOD)
    good = [[s for s in scenes.read(shard) if isinstance(s, Sample)] for shard in scenes.shards]
    damage = _damage(good[0][0])
    if not last.exists():  # a tar written again has another date, and would pass for other data
        whole = [file for sample in good[0] for file in members(sample)]
        write_members(damaged, chain(whole, *damage.values()))
        with replacing(last) as (draft,):
            write_tar(draft, good[1])
            os.truncate(draft, int(draft.stat().st_size * CUT))
    return [*damage, "archive cut off"]


def _damage(like: Sample) -> dict[str, list[tuple[str, bytes]]]:
    picture, caption = like.image or b"", like.caption.encode()
    cases = {
        "empty picture": [("jpg", b""), ("txt", caption)],
        "text named .jpg": [("jpg", b"<html>404 not found</html>"), ("txt", caption)],
        "half a picture": [("jpg", picture[: len(picture) // 2]), ("txt", caption)],
        "no caption": [("jpg", picture)],
        "caption not UTF-8": [("jpg", picture), ("txt", "caf\xe9 au lait".encode("latin-1"))],
        "claims 30000 x 30000": [("png", _bomb()), ("txt", caption)],
        "script in caption": [("jpg", picture), ("txt", b"a red circle <script>alert('clipscan')</script>")],
    }
    return {
        what: [(f"9000000{i:02d}.{extension}", content) for extension, content in files]
        for i, (what, files) in enumerate(cases.items())
    }


def _bomb(side: int = 30_000) -> bytes:
    """A PNG of a few bytes whose header promises side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
