"""What `clipscan serve` saves for undo is bounded, decisions are not."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from browser import Opened, chromium
from test_serve import scored

from clipscan.report.serve import open_server


def test_the_oldest_steps_of_undo_are_not_saved(tmp_path: Path) -> None:
    run = scored(tmp_path)
    one = open_server(run)
    thread = threading.Thread(target=one.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    take = "(w) => clipscan.decisions.take(Array.from({ length: 20000 }, (_, i) => [`s.tar\\0k${i}`, w]))"
    try:
        with chromium() as browser:
            opened = Opened(browser, one.url)
            for word in ("drop", "keep", "unsure"):
                opened.script(take, word)
            opened.script("clipscan.decisions.storage.flush()")
            assert opened.script("clipscan.decisions.steps.length") == 3
            opened.check()
    finally:
        one.server.shutdown()
        thread.join()
        one.close()
    saved = json.loads((run / "decisions.json").read_text())
    assert len(saved["decisions"]) == 20000
    assert [step["words"][0][1] for step in saved["steps"]] == ["drop", "keep"]  # what undo goes back to
