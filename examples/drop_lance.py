"""A Lance dataset without what a drop list names: python drop_lance.py RUN DATASET

The rows are deleted in a new version; `lance.dataset(path, version=...)` still gives the one before.
"""

import sys

import lance
import numpy as np

import clipscan

AT_ONCE = 10_000  # row ids in one delete


def clean(run: str, path: str, key: str = "key") -> int:
    """Deletes the rows by their ids, and says how many."""
    dataset = lance.dataset(path)
    table = dataset.to_table(columns=[key], with_row_id=True)
    gone = np.ones(len(table), bool)
    gone[clipscan.DropList.load(run).indices(table, key=key)] = False
    ids = table["_rowid"].to_numpy()[gone]
    for start in range(0, len(ids), AT_ONCE):
        dataset.delete(f"_rowid IN ({', '.join(map(str, ids[start : start + AT_ONCE]))})")
    return len(ids)


if __name__ == "__main__":
    print(clean(*sys.argv[1:3]), "rows deleted")
