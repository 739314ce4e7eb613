"""What every column of a run's tables means: written into the tables' own schema, and docs/tables.md.

pq.read_schema("run/suspects.parquet").field("slof").metadata[b"description"]
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from clipscan.scores.table import FAMILIES, SCORES

IDENTITY = {
    "shard": "the file, or slice of one, that the sample lies in; '.' for a folder of pictures",
    "key": "the sample's name in its shard",
}
UID = {"uid": "the dataset's own identifier, '' where it has none"}
CAPTIONED = {
    "url": "where the picture came from, as the dataset says",
    "caption": "the caption, white space at its ends removed",
    "at": "where in the shard the sample begins: byte of a tar, row of a table, place in a folder's listing",
}
REASON = {"reason": "why it could not be read"}
LISTED = {
    **IDENTITY,
    **UID,
    "reason": "the rule that put it on the list",
    "score": "its value by the score that ranks; in partition/, 1 - cosine",
}
STAMPS = {
    "shard": "the shard",
    "start": "first row of the slice that the shard is of its file; null for a whole file",
    "stop": "row behind the last of that slice",
    "shard_size": "bytes of the shard, -1 where unknown",
    "shard_stamp": "what changes when the shard does",
    "file": "a file of the shard",
    "size": "bytes of that file",
    "stamp": "what changes when that file does",
    "sha256": "of the file's content",
}

TABLES = {
    "suspects.parquet": {
        "rank": "place by the score that ranks, 1 the most suspicious",
        **IDENTITY,
        **UID,
        **CAPTIONED,
        "score": "value of the score that ranks: the column of that name",
        "group": "its group of near-copies in groups.parquet, -1 for none",
        "alike": "its group of suspects in groups.parquet, convicted together or with captions that say the "
        "same, -1 for none",
        "why": "why it is suspected, in words",
        "neighbors": "of the first hundred suspects the nearest samples of the whole set: shard, key, "
        "caption, at, distance between the pictures' vectors",
    },
    "groups.parquet": {
        "group": "number of the group; convicted populations first, other suspects, then near-copies",
        "kind": "'suspects': convicted together, or captions that say the same; 'copies': near-identical "
        "pictures",
        "population": "the convicted population that it is (run.json, score.populations), -1 for none",
        "verdict": "what the group looks like, in words",
        "size": "how many samples",
        "distance_bound": "members are linked by distances up to this: of captions, or of pictures; NaN for "
        "a convicted population",
        "caption_agreement": "mean cosine over all pairs of its captions; NaN without captions",
        "distinct_captions": "how many different captions",
        "top_caption": "the commonest",
        "members": "the first thousand: shard, key, caption, at",
    },
    "drop.parquet": LISTED,
    "bad.parquet": {**IDENTITY, **REASON},
    "calibration.parquet": {
        **IDENTITY,
        "p": "conformal p-value: how often a clean pair looks as suspicious",
        "decision": "drop or keep, at the rate asked for; `clipscan export --decisions` reads it",
    },
    "listing.parquet": STAMPS,
    "scores/scores_*.parquet": {
        **IDENTITY,
        "population": "convicted population that it belongs to (run.json, score.populations), -1 for none",
    },
    "embeddings/metadata/metadata_*.parquet": {
        **IDENTITY,
        **UID,
        **CAPTIONED,
        "sha256": "of the picture's bytes, as the dataset says, '' where it does not",
        "image_norm": "length of the raw picture vector",
        "text_norm": "length of the raw caption vector",
    },
    "embeddings/bad/bad_*.parquet": {**IDENTITY, **REASON},
    "embeddings/listing/listing_*.parquet": STAMPS,
    "partition/partition.parquet": {
        **IDENTITY,
        **UID,
        "cosine": "of picture and caption; null where it is not known",
        "posterior": "probability of the high component of the mixture; null where that does not separate",
        "safe": "whether the pair is taken for safe",
    },
    "partition/risky.parquet": LISTED,
    "partition/safe.parquet": LISTED,
}
SCORED = ("suspects.parquet", "scores/scores_*.parquet")  # tables with a column for every score


def meaning(table: str, column: str) -> str:
    """What a column of one of TABLES means, "" for an unknown one."""
    own = TABLES[table].get(column, "")
    return own or (_of_score(column) if table in SCORED else "")


def described(name: str, table: pa.Table) -> pa.Table:
    """The table, one of TABLES, with the meaning of its columns in its schema."""
    fields = [
        field.with_metadata({b"description": said.encode()}) if (said := meaning(name, field.name)) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, table.schema.metadata))


def page() -> str:
    """docs/tables.md."""
    return "\n".join(_page()) + "\n"


def _of_score(column: str) -> str:
    """NAME, NAME@REFERENCE, NAME_rank, NAME_spread."""
    found = re.fullmatch(r"(\w+?)(@[^_]*)?(_rank|_spread)?", column)
    if not found or found[1] not in SCORES:
        return ""
    score = f"{found[1]}{found[2] or ''}"
    if found[3] == "_rank":
        return f"place among all samples by {score}, 1 the most suspicious"
    if found[3] == "_spread":
        return f"standard deviation of {score} over the draws of its reference" + (
            ", of its logarithm" if SCORES[found[1]].by_log else ""
        )
    return SCORES[found[1]].about + (f"; against {found[2][1:]}" if found[2] else "")


def _page() -> Iterator[str]:
    yield "# The tables of a run folder"
    yield ""
    yield "Made from `clipscan/run/columns.py`. The same words are in the schema of `suspects.parquet`,"
    yield '`groups.parquet` and `scores/`: `pq.read_schema(FILE).field(COLUMN).metadata[b"description"]`.'
    yield "A sample is `shard` and `key` in all of them. Of every score a higher value is more suspicious;"
    yield "scores that were not asked for, or that the data does not allow, have no column."
    for name, columns in TABLES.items():
        yield from ("", f"## {name}", "", "| column | meaning |", "|---|---|")
        yield from (f"| `{column}` | {said} |" for column, said in columns.items())
        if name in SCORED:
            yield from _score_rows(name)


def _score_rows(table: str) -> Iterator[str]:
    yield from (f"| `{name}` | {SCORES[name].about} |" for name in sorted(SCORES, key=_place))
    if table == "suspects.parquet":
        yield "| `NAME_rank` | place among all samples by the score NAME, 1 the most suspicious |"
    logs = ", ".join(name for name, one in SCORES.items() if one.by_log)
    said = f"its standard deviation over the draws of its reference, of {logs} the logarithm's"
    yield f"| `NAME_spread` | {said} |"
    yield "| `NAME@REFERENCE` | where several references were asked for, a column for each |"


def _place(score: str) -> tuple[bool, int]:
    """Where the page has a score: first what judges all rows together, then a family after the other."""
    return SCORES[score].reference != "own", FAMILIES.index(SCORES[score].family)
