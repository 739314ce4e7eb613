"""Progress: lines tell rate and time left, the meter shares out what has no known length."""

import io
import json

import pytest

from clipscan.run.progress import Lines, ShardMeter, Silent

pytest.importorskip("torch", reason="needs clipscan[embed]")


def test_progress_lines_tell_rate_and_time_left():
    out = io.StringIO()
    lines = Lines(out, as_json=True)
    lines.stage("embed", "images")
    lines.advance(10, 0.5)
    lines.advance(20, 1.0)
    first, last = (json.loads(line) for line in out.getvalue().splitlines())
    assert first == {"stage": "embed"}
    assert last["done"] == 20 and last["share"] == 1.0


def test_the_meter_shares_out_shards_of_unknown_length():
    seen = []

    class Listener(Silent):
        def advance(self, done, share):
            seen.append((done, round(share, 3)))

    meter = ShardMeter(Listener(), [100, 100, 200])
    meter.tick(5)
    meter.finish(10)
    meter.tick(5)
    meter.finish(10)
    meter.tick(20)
    meter.finish(40)
    assert seen == [(5, 0.0), (10, 0.25), (15, 0.375), (20, 0.5), (40, 0.995), (60, 1.0)]
