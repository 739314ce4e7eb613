"""The page of a run: its size, how fast it paints, scrolls and takes decisions; and `clipscan serve`.

    python bench/page.py [--suspects 2000] [--groups 200] [--rows 1000000] [--side 256]

Makes run folders of random rows with pictures whose spectrum is that of photographs (1/f). Needs playwright,
and Chromium (tests/browser.py); rendering is in software.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from page_data import SHARD, dataset, run_folder, write

MAP_POINTS = 100_000
MOVE = """new Promise((done) => {
  const { map } = clipscan.review;
  const start = performance.now();
  let frames = 0;
  const frame = () => {
    map.view = { x: 0.5 + 0.1 * Math.sin(frames / 9), y: 0.5, zoom: 1 + (frames % 30) / 60 };
    map.paint();
    frames += 1;
    const taken = performance.now() - start;
    if (taken < 3000) requestAnimationFrame(frame);
    else done((1000 * frames) / taken);
  };
  requestAnimationFrame(frame);
})"""
VITALS = """
window.long = []; window.paints = {};
const observe = (type, take) =>
  new PerformanceObserver((list) => list.getEntries().forEach(take)).observe({ type, buffered: true });
observe("longtask", (entry) => long.push(entry.duration));
observe("paint", (entry) => (paints[entry.name] = entry.startTime));
"""


def shown(page: Path) -> str:
    """How many of the suspects, and of the first twelve of each group, have a picture in the file."""
    data = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    place = data["pictures"]["place"]

    def having(numbers: list[int]) -> str:
        there = sum(place.get(str(number), [-3])[0] >= -1 for number in numbers)
        return f"{there:,} of {len(numbers):,}"

    first = [number for group in data["groups"] for number in group["members"][:12]]
    return f"{having(data['suspects']['sample'])} suspects, {having(first)} in montages"


def measure_page(page: Path, chromium: Any) -> None:
    """First paint, start, long tasks while scrolling, decisions a second."""
    from browser import Opened

    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_init_script(VITALS)
        opened = Opened(browser, page.as_uri(), context=context)
        paint = opened.script("paints['first-contentful-paint']")
        started = opened.script("performance.now()")
        print(f"first contentful paint {paint:.0f} ms, all started {started:.0f} ms")
        opened.press("g")
        opened.page.wait_for_timeout(500)
        for what, element in (("gallery", ".gallery"), ("groups", ".rows")):
            opened.script(f"clipscan.review.open('{'suspects' if what == 'gallery' else 'groups'}')")
            opened.page.wait_for_timeout(300)
            opened.script("void (long.length = 0)")
            box = opened.page.locator(element).bounding_box()
            opened.page.mouse.move(box["x"] + 200, box["y"] + 200)
            for _ in range(60):
                opened.page.mouse.wheel(0, 400)
                opened.page.wait_for_timeout(16)
            tasks = opened.script("long")
            longest = max(tasks, default=0)
            print(f"scrolling the {what}: {len(tasks)} tasks over 50 ms, the longest {longest:.0f} ms")
        opened.script("clipscan.review.open('suspects'); clipscan.review.focus(0)")
        start = time.perf_counter()
        opened.press("dsu" * 100)
        taken = time.perf_counter() - start
        assert len(opened.words()) == 300
        print(f"decisions by keys: {300 / taken:.0f} a second")


def measure_map(folder: Path, page: Path, chromium: Any) -> None:
    """Frames a second of a map of 100,000 points that is moved and zoomed."""
    from browser import Opened

    from clipscan.report.page import write_page

    rng = np.random.default_rng(2)
    keys = [f"{i:08d}" for i in range(MAP_POINTS)]
    x, y = rng.normal(size=(2, MAP_POINTS)).astype(np.float32)
    write(folder / "small/report/map.parquet", {"shard": [SHARD] * MAP_POINTS, "key": keys, "x": x, "y": y})
    write_page(folder / "small", None)
    with chromium() as browser:
        opened = Opened(browser, page.as_uri(), viewport={"width": 1440, "height": 900})
        opened.press("m")
        opened.page.wait_for_timeout(500)
        frames = opened.script(MOVE)
        print(f"map of {MAP_POINTS:,} points, moved and zoomed: {frames:.0f} frames a second")


def measure_serve(run: Path, data: Path) -> None:
    """Answers of a server in a process of its own, and its memory."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(run), str(data)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    start = time.perf_counter()
    url = server.stdout.readline().strip()
    print(f"serve: ready after {time.perf_counter() - start:.1f} s")
    root, _, token = url.partition("/?token=")
    asked = {
        "first page": "start=0", "page in the middle": "start=500000", "last page": "start=999900",
        "caption contains": "start=0&text=red+dog", "again, further on": "start=300&text=red+dog",
        "domain": "start=0&domain=site7.example", "score": "start=200&low=1&high=2",
    }  # fmt: skip
    for what, query in asked.items():
        times = []
        for _ in range(1 if what in ("caption contains", "domain", "score") else 5):
            begin = time.perf_counter()
            request = urllib.request.Request(
                f"{root}/api/rows?count=100&{query}", headers={"X-Clipscan-Token": token}
            )
            total = json.load(urllib.request.urlopen(request))["total"]
            times.append(1e3 * (time.perf_counter() - begin))
        print(f"serve: 100 rows, {what} ({total:,} rows): {np.median(times):.0f} ms")
    status = Path(f"/proc/{server.pid}/status").read_text()
    lines = [line.split() for line in status.splitlines() if line.startswith(("VmHWM", "VmRSS", "RssAnon"))]
    memory = {line[0]: int(line[1]) / 1024 for line in lines}
    print(
        f"serve: memory {memory['VmRSS:']:.0f} MB, of it anonymous {memory['RssAnon:']:.0f} MB; "
        f"peak {memory['VmHWM:']:.0f} MB"
    )
    server.terminate()


def serve(run: str, data: str) -> None:
    from clipscan.data import open_dataset
    from clipscan.report.serve import open_server
    from clipscan.run import Run

    serving = open_server(Run(run, open_dataset(data)))
    print(serving.url, flush=True)
    serving.forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("suspects", 2000), ("groups", 200), ("rows", 1_000_000), ("side", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.serve:
        serve(*a.serve)
        return
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    from browser import chromium

    from clipscan.data import open_dataset
    from clipscan.report.page import write_page

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = dataset(folder / "data", 4000, a.side)
        run_folder(folder / "small", 20_000, a.suspects, a.groups, places)
        start = time.perf_counter()
        page = write_page(folder / "small", open_dataset(folder / "data"))
        size, taken = page.stat().st_size / 1e6, time.perf_counter() - start
        print(f"page of {a.suspects:,} suspects, {a.groups} groups: {size:.1f} MB in {taken:.0f} s")
        print(f"with a picture: {shown(page)}")
        measure_page(page, chromium)
        measure_map(folder, page, chromium)
        if a.rows:
            run_folder(folder / "large", a.rows, a.rows // 100, a.groups, places)
            measure_serve(folder / "large", folder / "data")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    main()
