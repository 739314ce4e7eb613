"""Does a test stand on luck? Those that train, or ask a network what it knows, over and over.

    python tests/robust.py [--seeds 20] [ARGUMENTS OF PYTEST, instead of TESTS]

Once for each seed with `--disturb` (disturbance.py); then undisturbed, with less of the processor: other
instructions round otherwise, and a training that is otherwise rounded ends elsewhere. A processor cannot be
told to have what it lacks, such as AMX: that is what disturbed weights stand in for. Exit code 1, and the
failures by name, where any test fails. With all seeds it takes an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
TESTS = (
    "test_invert.py::test_the_learnt_patch_is_recovered_and_costs_less_than_a_harmless_caption",
    "test_invert.py::test_the_same_seed_finds_the_same_trigger",
    "test_lab_learnt.py::test_numpy_draws_what_torch_has_learnt",
    "test_lab_learnt.py::test_a_patch_brings_pictures_among_those_of_the_target",
    "test_lab_learnt.py::test_a_faint_perturbation_is_obeyed_by_a_surrogate_that_trains_on_it",
    "test_lab_learnt.py::test_a_surrogate_learns_from_poison_and_is_clean_again_when_rewound",
    "test_lab_learnt.py::test_the_same_settings_learn_the_same_bytes",
    "test_heads_cli.py",
    "test_train.py::test_it_learns_what_the_captions_say",
    "test_train.py::test_a_killed_training_goes_on_to_the_same_weights",
    "test_safeclip.py::test_it_says_and_keeps_what_it_took_for_safe",
    "test_safeclip_processes.py::test_two_processes_train_what_one_does",
    "test_lab_demo.py",
    "test_lab_runner.py",
    "test_lab_runner_options.py",
    "test_trusted.py",
)
INSTRUCTIONS = ("AVX2", "AVX512_CORE", None)  # oneDNN's, at most; None: all that there are
VECTORS = ("default", "avx2", "avx512")  # PyTorch's own loops
THREADS = ("1", "2")

Case = tuple[dict[str, str], list[str]]  # environment, arguments of pytest


def cases(seeds: int) -> Iterator[Case]:
    for seed in range(1, seeds + 1):
        yield {}, ["--disturb", str(seed)]
    for most, vectors, threads in product(INSTRUCTIONS, VECTORS, THREADS):
        known = {"ONEDNN_MAX_CPU_ISA": most} if most else {}
        yield known | {"ATEN_CPU_CAPABILITY": vectors, "OMP_NUM_THREADS": threads}, []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    asked, tests = parser.parse_known_args()
    failed = 0
    for environment, options in cases(asked.seeds):
        words = " ".join([*(f"{name}={value}" for name, value in environment.items()), *options])
        start = time.perf_counter()
        command = ["pytest", "-q", "--tb=line", *options, *(tests or TESTS)]
        done = subprocess.run(command, cwd=HERE, env=os.environ | environment, capture_output=True, text=True)
        failed += done.returncode != 0
        print(
            f"{'FAILED' if done.returncode else 'passed'} {time.perf_counter() - start:4.0f} s  {words}",
            flush=True,
        )
        if done.returncode:
            print(done.stdout[-3000:], done.stderr[-1000:], sep="\n", flush=True)
    print(f"{failed} of {len(list(cases(asked.seeds)))} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
