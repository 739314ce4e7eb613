"""How many threads to take when nobody says, and how many of them linear algebra is worth."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

from threadpoolctl import threadpool_limits

CGROUP = Path("/sys/fs/cgroup")  # a container sees its own group here
ROWS_A_THREAD = 1 << 13  # that pay for a thread of NumPy's linear algebra


def cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(CGROUP))))


@contextlib.contextmanager
def linear_algebra(threads: int | None, rows: int) -> Iterator[None]:
    """NumPy's BLAS with at most `threads` (None: cores()), one for each ROWS_A_THREAD rows: more wait for
    one another longer than they compute, on a busy machine several times as long."""
    with threadpool_limits(min(threads or cores(), max(1, rows // ROWS_A_THREAD)), user_api="blas"):
        yield


def _quota(group: Path) -> float:
    """CPU-seconds a second a control group grants; infinity where there is no limit or none can be read."""
    with contextlib.suppress(OSError, ValueError):  # version 2: "max 100000" or "150000 100000"
        quota, period = (group / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1: -1 is no limit
        quota, period = ((group / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf
