"""The simulated GPU (tests/sim) computes what the hardware does, and notices what that would not forgive."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipscan.engine import cores

ROOT = Path(__file__).resolve().parent.parent
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++20", "-O1", "-g", "-ffp-contract=off", "-Wno-unknown-pragmas", "-DCLIPSCAN_SIM"]
PARTS = ("barriers", "grid", "mma", "shared", "stacks", "turns", "warps", "wgmma", "words")  # of machine.h
DRIVER = ("device", "device_memory", "device_streams")
SECTIONS = ("ampere", "hopper", "host", "mistakes", "threads", "wgmma")
TESTS = ("self_test", *(f"self_test_{name}" for name in SECTIONS))
SETTINGS = ("SEED", "MEMORY", "DEVICES", "CAPABILITY", "FAIL", "BLOCK", "HANG")

KERNELS, PRODUCTS = "self_test_mistakes.cpp", "self_test_wgmma.cpp"
# What is said about each mistake; "noticed" where only its result shows it.
MISTAKES = {
    "absent_block": "block 1 of the cluster has exited",
    "arrives_twice": "this warp came twice",
    "bulk_not_expected": "deadlock, no thread can go on:.*0 of 1 arrivals and 256 bytes are missing",
    "bulk_of_odd_size": "24 bytes: not a positive multiple of 16",
    "bulk_outside": "32 bytes at offset 1008 lie outside the block's 1024 bytes of shared memory",
    "bulk_under_way": "the block ends while 256 bytes of a bulk copy are under way",
    "bulk_without_wait": "noticed",
    "bulk_written_in_flight": "was written while a copy to there was under way",
    "copied_past_the_end": "bytes 0 to 20 of an allocation of 16 bytes",
    "deadlock": f"warp 0, lanes 0-31: named_wait {KERNELS}.*warp 1, lanes 0-31: named_wait {KERNELS}",
    "descriptor_outside": "lies past the block's",
    "different_ballots": f"at ballot {KERNELS}:.*other lanes of the warp wait at ballot {KERNELS}:",
    "different_calls": f"at ballot {KERNELS}:.*other lanes of the warp wait at shuffle {KERNELS}:",
    "exit_before_finish": f"the thread exits while the product of {PRODUCTS}:.* is under way",
    "exited_lane": "block 0, thread 40 .warp 1, lane 8.*while other lanes of its warp wait at ballot",
    "exited_thread": "all threads of the block are needed, and 32 have exited",
    "hopper_call_on_ampere": "needs compute capability 9.0",
    "init_without_sync": "no initialised barrier at offset 0",
    "load_outside": "16 bytes at offset 2016 lie outside",
    "misaligned_barrier": "offset 4 in shared memory is not a multiple of 8",
    "misaligned_load": "offset 504 in shared memory is not a multiple of 16",
    "misaligned_source": "is not a multiple of 16",
    "no_init": "no initialised barrier at offset 0",
    "no_init_fence": "used before barrier_init_fence",
    "no_multiply_fence": "no multiply_fence since",
    "no_stream_wait": "noticed",
    "no_sync": "noticed",
    "no_sync_in_a_pipeline": "noticed",
    "no_wait": "noticed",
    "operands_overwritten": f"operands of the product at {PRODUCTS}:.* changed while it was under way",
    "other_descriptor": "the four warps of the warpgroup give different descriptors",
    "past_allocation": "kernel mistaken: wrote the byte 0 past an allocation of 16384 bytes",
    "past_shared": "the byte 0 past the block's 1024 bytes of shared memory was written",
    "read_before_synchronize": "noticed",
    "read_past_allocation": "noticed",
    "registers_not_given_up": "deadlock.*has 168 registers a thread and wants 232; the block has given up 0",
    "registers_that_never_come": "deadlock.*has 168 registers a thread and wants 224; the block has given up",
    "released_twice": "releasing memory twice",
    "sums_not_finished": "noticed",
    "sums_read_early": "noticed",
    "sums_written_early": "accumulators of lane 0 were written while products into them were under way",
    "too_deep": "",  # the memory below a stack cannot be touched: the system ends the process
    "too_few_waits": "noticed",
    "too_many_arrivals": "more than the 2 arrivals",
    "written_in_flight": "was written while a copy to there was under way",
    "wrong_swizzle": "the swizzle mode is not 64 bytes",
}


def compiled(names, folder, *flags):
    """The object files of tests/sim/`name`.cpp, as many at a time as there are cores."""
    if not shutil.which(COMPILER):
        pytest.skip(f"needs a C++20 compiler: {COMPILER} is not installed (CXX names another)")
    include = [f"-I{ROOT / part}" for part in ("tests/sim", "kernels/cuda")]

    def compile_one(name):
        to = folder / f"{name}.o"
        source = str(ROOT / "tests" / "sim" / f"{name}.cpp")
        subprocess.run([COMPILER, *FLAGS, *flags, *include, "-c", source, "-o", str(to)], check=True)
        return to

    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(compile_one, names))


def linked(to, *parts):
    subprocess.run([COMPILER, *map(str, parts), "-pthread", "-o", str(to)], check=True)
    return to


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sim")
    return compiled([*PARTS, *DRIVER, *TESTS], folder)


@pytest.fixture(scope="module")
def program(objects, tmp_path_factory):
    return linked(tmp_path_factory.mktemp("sim") / "self_test", *objects)


def run(program, *arguments, **settings):
    kept = {k: v for k, v in os.environ.items() if k not in {f"CLIPSCAN_SIM_{s}" for s in SETTINGS}}
    settings = {f"CLIPSCAN_SIM_{k.upper()}": str(v) for k, v in settings.items()}
    command, environment = [program, *arguments], kept | settings
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("seed", range(6))
def test_every_wrapper_computes_what_plain_loops_compute_in_any_order(program, seed):
    done = run(program, seed=seed)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed(program, name):
    done = run(program, name)
    said = " ".join((done.stdout + done.stderr).split())
    assert re.search(MISTAKES[name], said), said
    assert (done.returncode == 0) == (MISTAKES[name] == "noticed"), said


def test_every_mistake_has_its_words(program):
    assert run(program, "--mistakes").stdout.split() == sorted([*MISTAKES, "runs_ahead"])


def test_a_mistake_that_only_a_straggling_warp_brings_to_light_is_noticed_with_some_seed(program):
    assert "not noticed" in run(program, "runs_ahead").stdout
    assert any(
        "this warp came twice" in run(program, "runs_ahead", seed=seed).stderr for seed in range(1, 16)
    )


def test_a_tile_of_128_x_128_x_64_takes_far_less_than_50_ms(program):
    words = run(program, "speed").stdout.split()
    assert float(words[words.index("took") + 1]) < 25


def test_the_portable_way_to_switch_fibers_does_the_same(objects, tmp_path):
    parts = compiled(PARTS, tmp_path, "-DCLIPSCAN_SIM_UCONTEXT")
    done = run(linked(tmp_path / "self_test", *parts, *objects[len(PARTS) :]))
    assert done.returncode == 0, done.stdout + done.stderr


def test_address_sanitizer_finds_a_read_past_an_allocation_and_nothing_in_right_kernels(tmp_path):
    (tmp_path / "probe.cpp").write_text("int main() {}")
    try:
        linked(tmp_path / "probe", "-fsanitize=address", tmp_path / "probe.cpp")
    except subprocess.CalledProcessError:
        pytest.skip(f"needs AddressSanitizer's library beside {COMPILER}")
    parts = compiled([*PARTS, *DRIVER, *TESTS], tmp_path, "-fsanitize=address")
    program = linked(tmp_path / "self_test", "-fsanitize=address", *parts)
    done = run(program)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(program, "read_past_allocation")
    assert done.returncode != 0
    assert "AddressSanitizer: use-after-poison" in done.stderr
