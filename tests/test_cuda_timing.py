"""What `clipscan bench kernels` says of a kernel is what the kernel did; times are nobody's business here.

On a simulated device, and on a real one where there is one.
"""

import ctypes
import gc
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from clipscan import bench, cli
from clipscan.bench import kernel_work, kernels, records
from clipscan.bench.kernel_work import KernelPlan, KernelRun
from clipscan.engine import as_rows, codebook
from clipscan.errors import BackendError, DeviceLost, InputError

EVERYBODY = 9.0  # a distance that no two unit rows exceed


pytestmark = pytest.mark.usefixtures("device")  # of conftest.py


@pytest.fixture
def timing(device):
    def load(n, d, k=4, capacity=256):
        x = bench.clustered(n, d)
        return device.Timing(device.Device(0), [x], *codebook.fit([as_rows(x)]), k, capacity, 1)

    return load


def names(device):
    return kernel_work.TILES if device.capability(0)[0] == 9 else ["mma"]


@pytest.mark.parametrize("n", [512, 768])  # whole tiles; of the larger tile an even and an odd circle
@pytest.mark.parametrize("both", [True, False])
def test_products_are_those_of_the_pairs_that_a_band_of_steps_meets(device, timing, n, both):
    rows = timing(n, 70)
    width = 128  # 70 codes, padded
    for name in names(device):
        _, last = kernel_work.steps(n, name, both)
        for begin, end in ((0, 1), (1, 2), (last - 1, last), (0, last)):
            rows.filter(name == "wgmma", begin, end, both, EVERYBODY, 0, 1)
            met = kernel_work.products(n, 70, name, begin, end, both) // width
            # A tile with itself gives each pair twice, as either's row; any other serves both rows at once.
            own = n * kernel_work.TILES[name] if begin == 0 else 0
            noted = 2 * (met - own) + own - (n if begin == 0 else 0) if both else met
            if not both:
                assert noted - n <= rows.passed() <= noted  # a row does not meet itself, wherever that is
            else:
                assert rows.passed() == noted, (name, begin, end)
        if not both:
            assert rows.passed() == n * (n - 1)


def test_rows_that_fill_no_tile_are_padded_to_one():
    assert kernel_work.products(1, 1, "mma", 0, 1, True) == 128 * 128 * 64
    # Two tiles, which are opposite ones, and meet once.
    assert kernel_work.products(129, 65, "mma", 0, 2, True) == 3 * 128 * 128 * 128
    assert kernel_work.products(300, 64, "wgmma", 0, 2, False) == 3 * 2 * 128 * 256 * 64
    assert kernel_work.products(300, 64, "wgmma", 0, 2, True) == (2 * 3 - 1) * 128 * 256 * 64


def test_a_limit_lets_the_wanted_number_pass(timing):
    plan = KernelPlan(n=300, d=24, k=4)
    rows = timing(plan.n, plan.d)
    distance = kernels.limit_for(rows, plan, 6)
    rows.filter(False, *kernel_work.steps(300, "mma", True), True, distance, 0, 1)
    assert 5 * 300 <= rows.passed() <= 6 * 300
    rows.filter(False, *kernel_work.steps(300, "mma", True), True, 0.0, 0, 1)
    assert rows.passed() == 0


def test_refine_says_what_it_measured_and_leaves_the_candidates(timing):
    rows = timing(256, 24)
    rows.filter(False, *kernel_work.steps(256, "mma", True), True, EVERYBODY, 0, 1)
    for _ in range(2):
        assert rows.passed() == 256 * 255
        assert rows.refine("settle", 0, 2)[1] == 256 * 4  # the k that look nearest
    few = kernels.limit_for(rows, KernelPlan(n=256, d=24, k=4), 20)
    rows.filter(False, *kernel_work.steps(256, "mma", True), True, few, 0, 1)
    assert rows.refine("tighten", 0, 1)[1] == 0
    took, measured = rows.refine("finish", 1, 2)
    assert 256 * 4 <= measured <= rows.passed() and len(took) == 2


def test_runs_are_counted_after_those_that_warm_up(timing):
    rows = timing(130, 8)
    for call in (rows.encode, rows.find_copies, rows.density):
        assert len(call(2, 3)) == 3 and all(ms >= 0 for ms in call(0, 1))


def test_a_variant_compiled_elsewhere_gets_the_kernels_own_argument(timing):
    task = timing(130, 8).filter_task(1, 2, True)
    assert isinstance(task, bytes) and len(task) % 8 == 0
    steps = np.frombuffer(task, np.int32)
    assert any((steps[i : i + 2] == (1, 2)).all() for i in range(len(steps)))


def test_nothing_is_left_on_the_device(device, timing):
    if device.__name__ != "_cuda_sim":
        pytest.skip("only the simulated device counts what is allocated")
    lib = ctypes.CDLL(device.__file__)
    lib.clipscan_sim_live_bytes.restype = ctypes.c_size_t
    gc.collect()
    before = lib.clipscan_sim_live_bytes(), lib.clipscan_sim_live_streams()
    rows = timing(130, 8)
    rows.filter(False, 0, 1, True, EVERYBODY, 0, 1)
    for call in (rows.encode, rows.find_copies, rows.density):
        call(0, 1)
    rows.refine("finish", 0, 1)
    del rows, call
    gc.collect()
    assert (lib.clipscan_sim_live_bytes(), lib.clipscan_sim_live_streams()) == before


def test_a_row_holds_rates_and_shares_of_the_same_unit():
    peaks = {"int8": 10.0, "bf16": 5.0, "copy": 4000.0}
    fast = kernels.row_of(KernelRun("filter", [1.0, 3.0, 2.0], 2e9, "Top/s", passed=30), 10, peaks)
    assert fast["ms_median"] == 2 and fast["rate"] == pytest.approx(1)
    assert (fast["share_int8"], fast["share_bf16"]) == pytest.approx((0.1, 0.2)) and "share_copy" not in fast
    assert fast["passed_per_row"] == 3 and "measured_per_row" not in fast
    moved = kernels.row_of(KernelRun("encode", [1.0], 1e9, "GB/s"), 10, {"copy": 4000.0})
    assert (moved["rate"], moved["share_copy"]) == pytest.approx((1000, 0.25)) and "share_int8" not in moved


def test_bytes_are_what_must_be_moved(timing):
    plan = KernelPlan(n=130, d=65, k=4, rounds=1)
    runs = {run.kernel: run for run in kernels.kernel_runs(timing(130, 65), plan, False)}
    assert runs["encode"].work == 130 * (4 * 65 + 128 + 8)
    assert runs["find_copies"].work == 130 * 4 * 65
    assert runs["density"].work == 130 * (4 * 12 + 64)
    assert runs["refine tighten"].work == 8 * runs["refine tighten"].passed
    finish = runs["refine finish"]
    assert finish.work == 8 * finish.passed + 4 * 65 * (finish.measured + 130) + 130 * 64


def test_clipscan_bench_kernels_prints_one_table_and_adds_to_the_file(device, tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "HALVINGS", 3)
    file = tmp_path / "run.json"
    records.put(file, "facts", {"cores": np.int64(2)})
    options = ["--n", "257", "--d", "20", "--k", "4", "--rounds", "1", "--json", str(file)]
    done = CliRunner().invoke(cli.app, ["bench", "kernels", *options])
    assert done.exit_code == 0, done.output
    found = json.loads(file.read_text())
    assert found["facts"] == {"cores": 2}
    said = [row["kernel"] for row in found["kernels"]]
    ours = [name for name in said if name not in ("int8", "bf16", "copy")]
    filters = [
        f"filter {name}, {side}"
        for name in names(device)
        for side in ("both sides", "one side", "both sides", "both sides")
    ]
    refines = ["refine tighten", "refine settle", "refine finish"]
    assert ours == ["encode", "find_copies", "density", *filters[:4], *refines, *filters[4:]]
    assert "257 x 20" in done.stdout and all(name in done.stdout for name in ours)
    if len(said) == len(ours):
        assert "the shares" in done.output and not any(row.get("share_int8") for row in found["kernels"])


def test_plans_and_devices_are_refused_in_words(device, monkeypatch):
    with pytest.raises(InputError, match="between 1 and n - 1 = 9"):
        KernelPlan(n=10, k=10)
    with pytest.raises(InputError, match="at least 1"):
        KernelPlan(rounds=0)
    with pytest.raises(InputError, match="at most 1024 neighbours"):
        KernelPlan(k=2000)
    with pytest.raises(BackendError, match="no device cuda:99"):
        list(kernels.measure_kernels(KernelPlan(device=99), print))
    if device.__name__ == "_cuda_sim":
        monkeypatch.setenv("CLIPSCAN_SIM_MEMORY", str(1 << 16))
        with pytest.raises(BackendError, match="smaller --n"):
            list(kernels.measure_kernels(KernelPlan(n=3000, d=8), print))
        monkeypatch.delenv("CLIPSCAN_SIM_MEMORY")
        monkeypatch.setenv("CLIPSCAN_SIM_FAIL", "40")
        with pytest.raises(DeviceLost, match="cuda:0"):
            list(kernels.measure_kernels(KernelPlan(n=300, d=8), print))
