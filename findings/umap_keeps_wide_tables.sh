#!/usr/bin/env bash
# umap-learn 0.5.12 (PyPI): UMAP(n_neighbors=15, precomputed_knn=(index, distance)).
#
# Expected: n_neighbors says how many columns of a wider precomputed table count, whatever the number of rows.
# Seen: it is cut only where there are 4,096 rows or more. Below, the exact small-data branch takes all columns of
# the table as they are: the graph of 300 rows by a table of 16 columns with n_neighbors=15 is that of
# n_neighbors=16, edge for edge, and not that which UMAP makes itself with 15. So an embedding changes in kind when
# a set of pictures grows past 4,096, and two people with the same n_neighbors compare different graphs.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check umap-learn==0.5.12 2>"$place/log" || { cat "$place/log"; exit 1; }
"$place/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import umap
from importlib.metadata import version
from sklearn.neighbors import NearestNeighbors

print("umap-learn", version("umap-learn"))


def edges(rows, n_neighbors, table=None):
    """Edges of UMAP's fuzzy graph."""
    made = umap.UMAP(n_neighbors=n_neighbors, precomputed_knn=table or (None,), n_epochs=1, random_state=0)
    return made.fit(rows).graph_.nnz


def exact(rows, columns):
    distance, index = NearestNeighbors(n_neighbors=columns).fit(rows).kneighbors(rows)
    return index.astype(np.int32), distance.astype(np.float32)


found = {}
for n in (300, 4_500):
    rows = np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)
    wide, narrow = exact(rows, 16), exact(rows, 15)
    found[n] = edges(rows, 15, wide), edges(rows, 15, narrow), edges(rows, 16, wide)
    print(f"{n:5} rows: 16 columns cut to 15: {found[n][0]:,} edges; 15 columns: {found[n][1]:,}; 16 of 16: {found[n][2]:,}")
assert found[300][0] == found[300][2] != found[300][1], "small sets are cut now"
assert found[4_500][0] == found[4_500][1] != found[4_500][2], "large sets are no longer cut"
PY
