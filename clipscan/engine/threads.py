"""How many threads to take when nobody says."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # a container sees its own group here


def cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(CGROUP))))


def _quota(group: Path) -> float:
    """CPU-seconds a second a control group grants; infinity where there is no limit or none can be read."""
    with contextlib.suppress(OSError, ValueError):  # version 2: "max 100000" or "150000 100000"
        quota, period = (group / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1: -1 is no limit
        quota, period = ((group / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    return math.inf
