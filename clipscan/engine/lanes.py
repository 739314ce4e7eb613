"""Threads that work for a search, and how the calling thread waits for them so that Ctrl-C reaches it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from typing import Any

from clipscan.engine.tasks import LOOK_UP


def open_lane(drive: Callable[..., None], *arguments: Any) -> Future[None]:
    """drive(*arguments) in a thread that the end of Python does not wait for."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            drive(*arguments)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name="clipscan-device", daemon=True).start()
    return future


def watch(lanes: Iterable[Future[None]]) -> None:
    """Until all have ended; raises what one of them does. Looks up now and then, or Ctrl-C might wait."""
    left = set(lanes)
    while left:
        ended, left = wait(left, LOOK_UP, FIRST_EXCEPTION)
        for lane in ended:
            lane.result()
