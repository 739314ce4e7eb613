"""Threads by default: what the scheduler and the container leave us."""

import os

import pytest
from threadpoolctl import threadpool_info

from clipscan.engine import threads as module


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, float("inf")),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, float("inf")),
        ({"cpu.max": "nonsense\n"}, float("inf")),
        ({}, float("inf")),
    ],
)
def test_a_quota_is_read_in_both_versions_of_control_groups(tmp_path, files, quota):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert module._quota(tmp_path) == quota


@pytest.mark.parametrize(("quota", "cores"), [(0.25, 1), (1.5, 2), (float("inf"), 3)])
def test_no_more_threads_than_the_quota_rounded_up(monkeypatch, quota, cores):
    monkeypatch.setattr(module, "_quota", lambda _: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert module.cores() == cores


@pytest.mark.parametrize(("threads", "rows", "at_most"), [(1, 10**6, 1), (2, 100, 1), (2, 1 << 14, 2)])
def test_linear_algebra_takes_no_more_threads_than_its_rows_are_worth(threads, rows, at_most):
    def blas():
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    before = blas()
    with module.linear_algebra(threads, rows):
        assert max(blas(), default=1) <= at_most
    assert blas() == before
