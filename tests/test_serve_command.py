"""`clipscan serve` as a process: it says where to look, answers there, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from run_helpers import scan_vectors


def test_it_prints_its_address_answers_and_ends_clean(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    np.save(tmp_path / "data" / "vectors.npy", vectors)
    run = scan_vectors(tmp_path / "data" / "vectors.npy", tmp_path / "run").out
    (tmp_path / "temporary").mkdir()
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "clipscan", "serve", str(run)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().removeprefix("open ").strip()
        assert "decisions.json" in server.stdout.readline()
        page = urllib.request.urlopen(url, timeout=60).read()
        assert b'"total":200' in page and b"Content-Security-Policy" in page
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.partition("?")[0], timeout=60)
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0
    assert list((tmp_path / "temporary").iterdir()) == []
