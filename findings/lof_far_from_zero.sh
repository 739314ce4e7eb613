#!/usr/bin/env bash
# scikit-learn 1.9.1 with numpy 2.4.6 (PyPI), CPython 3.11 and later: sklearn.neighbors.LocalOutlierFactor.
#
# Expected: local outlier factors are ratios of distances, so they do not change where every row is moved by the same
# amount, as where a table holds Unix times; float64 has sixteen digits.
# Seen: of more than 15 columns algorithm="auto" searches by brute force, and takes distances from |x|^2 + |y|^2 - 2 x.y,
# which cancel. 1.7e9 added to the breast cancer table that comes with the package: 117 of 569 rows are called outliers
# instead of 29, and 102 labels differ. The one warning blames duplicate values, of which there are none. With
# algorithm="kd_tree", which subtracts first, no label changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 2>"$place/log" ||
    { cat "$place/log"; exit 1; }
"$place/venv/bin/python" - <<'PY'
import sys
import warnings

import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.neighbors import LocalOutlierFactor

warnings.simplefilter("ignore")
x = load_breast_cancer().data
print("scikit-learn", sklearn.__version__, "| numpy", np.__version__, "| rows", x.shape,
      "of which", len(np.unique(x, axis=0)), "different")
expected = LocalOutlierFactor(algorithm="kd_tree").fit_predict(x)
differ = {}
for algorithm in ("auto", "kd_tree"):
    found = LocalOutlierFactor(algorithm=algorithm).fit_predict(x + 1.7e9)
    differ[algorithm] = int((found != expected).sum())
    print(f"{algorithm}: {(found == -1).sum()} outliers far from 0, {(expected == -1).sum()} near it, "
          f"{differ[algorithm]} labels differ")
sys.exit(0 if differ["auto"] > 50 and differ["kd_tree"] == 0 else "labels no longer differ")
PY
