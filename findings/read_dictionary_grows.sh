#!/usr/bin/env bash
# pyarrow 26.0.1 (PyPI): pyarrow.parquet.ParquetFile(read_dictionary=[...]).iter_batches().
#
# Expected: a batch of 10,000 rows, read as a dictionary column, carries the dictionary of these rows, or that of
# the row group's dictionary page.
# Seen: a column of 200,000 different URLs has a dictionary page for its first 23,072 values and plain pages after
# (the writer gives the dictionary up at 1 MiB). Of the plain part every batch carries ALL values read so far: the
# dictionaries grow 30,000, 40,000, ... 200,000 for batches of 10,000 rows, 2.1 million values handed out for
# 200,000. Time and memory a batch grow with its distance from the row group's start; the column that dictionaries
# are asked for to save memory is the one that pays. Read plainly, each batch holds its 10,000 values.
# The documentation of read_dictionary does not say so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy 2>"$place/log" || { cat "$place/log"; exit 1; }
"$place/venv/bin/python" - <<'PY'
import io
import pyarrow as pa
import pyarrow.parquet as pq

ROWS, BATCH = 200_000, 10_000
urls = [f"https://example.org/pictures/{i:09d}.jpg" for i in range(ROWS)]
file = io.BytesIO()
pq.write_table(pa.table({"url": urls}), file, row_group_size=ROWS)
batches = pq.ParquetFile(file, read_dictionary=["url"]).iter_batches(batch_size=BATCH)
sizes = [len(batch.column(0).dictionary) for batch in batches]
print("pyarrow", pa.__version__)
print("entries in the dictionary of each batch of 10,000 rows:", sizes)
print("handed out in all:", sum(sizes), "for", ROWS, "rows")
assert sizes[2:] == [BATCH * (i + 1) for i in range(2, ROWS // BATCH)], "the dictionaries no longer grow"
PY
