"""Waiting for a device so that Ctrl-C is heard: torch's own waits cannot be ended, and a kernel may hang."""

from __future__ import annotations

import time

import torch

EAGER = 1e-4  # seconds of looking without a pause
LONGEST = 1e-3  # of a pause, which is a 32nd of the wait so far

asked: set[str] = set()  # devices whose call in hand shall end: Ctrl-C was heard by another thread


def rest(device: torch.device) -> None:
    """Until what was put on the device's stream is done. Before whatever brings results to the host."""
    if device.type != "cuda":
        return
    done = torch.cuda.Event()
    done.record()
    start = time.monotonic()
    while not done.query():
        if str(device) in asked:
            raise KeyboardInterrupt
        if (waited := time.monotonic() - start) > EAGER:
            time.sleep(min(waited / 32, LONGEST))
