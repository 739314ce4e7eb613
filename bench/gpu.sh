#!/usr/bin/env bash
# Everything about the GPU engine in one go, on a machine with an NVIDIA GPU: is each kernel right, how fast is it, how
# fast is a search, beside others, at other sizes.
#
#   bench/gpu.sh [OUT]         OUT: a folder, bench/results unless given
#
# Needs nvcc, cmake, ninja, a C++20 compiler, and a python3 (PYTHON names another) with numpy, pybind11 >= 3, pyarrow,
# typer, rich, jinja2, pillow, fsspec; with torch and triton for what concerns them, pytest and hypothesis for the tests.
# Nothing is installed and nothing fetched: it builds a copy of this checkout in a temporary folder, for this GPU only.
#
# OUT/<device>-<date>.json gets each result as soon as it is there, OUT/<device>-<date>.log all that was said, and
# OUT/<device>-<date>-ncu.txt the profiles. Steps in the order of their worth, each with a limit in seconds; all end
# within LIMIT (540), so the last may be left out. One that fails is named, and the next goes on. The exit code is 1
# where any failed. COMMIT in the environment, or a file of that name, says what is measured where there is no git.
#
#   facts       20  device, driver, versions
#   build      150  _core and _cuda
#   smoke       60  each kernel by itself against the definition; all at once, a process each. Back-ends that are wrong
#                   here are not measured further on
#   tests      110  tests/test_cuda.py and the like on this device, and tests/test_triton_*.py beside them
#   kernels     60  clipscan bench kernels
#   end-to-end  75  a million rows: wgmma, mma, Triton; float32, float16
#   peers       90  torch, FAISS, cuVS, cuML, FlashLib, as far as installed
#   sweep       80  other n, d, k; three million rows with all scores
#   scaling     40  the queue of 2, 4, 8 devices, from task times on one
#   tiles       40  other tiles of the mma filter
#   embed       40  clipscan bench embed, where open_clip is installed
#   profile     60  Nsight Compute, a launch of each filter
#   sanitize    60  compute-sanitizer: memcheck, then racecheck, on the smoke
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
limit=${LIMIT:-540}
[[ -x /usr/local/cuda/bin/nvcc ]] && PATH=$PATH:/usr/local/cuda/bin

device=$(nvidia-smi --query-gpu=name --format=csv,noheader --id=0 2>/dev/null | head -n 1)
if [[ -z $device ]]; then
  echo "bench/gpu.sh: nvidia-smi finds no NVIDIA GPU here; run this on a machine with one" >&2
  exit 1
fi
for tool in nvcc cmake ninja c++ "$python"; do
  if ! command -v "$tool" >/dev/null; then
    echo "bench/gpu.sh: needs $tool on the path" >&2
    exit 1
  fi
done

mkdir -p "${1:-$root/bench/results}" || exit 1
out=$(cd "${1:-$root/bench/results}" && pwd)
stem=$(tr -cs '[:alnum:]' - <<<"$device" | tr '[:upper:]' '[:lower:]')$(date -u +%Y%m%d-%H%M%S)
json=$out/$stem.json log=$out/$stem.log
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root" || exit 1
tar --exclude='*.so' --exclude=__pycache__ -cf - CMakeLists.txt pyproject.toml csrc kernels clipscan tests bench/gpu{,.sh} |
  tar -C "$work" -xf - || exit 1
cd "$work" || exit 1

export PYTHONPATH=$work${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
export COMMIT=${COMMIT:-$(git -C "$root" describe --always --dirty=+ 2>/dev/null || cat "$root/COMMIT" 2>/dev/null || echo unknown)}
export CUDA_DEVICE_ORDER=PCI_BUS_ID  # as nvidia-smi counts
unset TRITON_INTERPRET

. bench/gpu/step.sh

# ---- what is here

facts() {
  note facts device "$device"
  note facts commit "$COMMIT"
  note facts driver "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader --id=0)"
  note facts memory "$(nvidia-smi --query-gpu=memory.total --format=csv,noheader --id=0)"
  note facts capability "$capability"
  note facts nvcc "$(nvcc --version | sed -n 's/.*release //p')"
  note facts cpu "$(nproc) of $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"
  note facts python "$("$python" -c 'import platform; print(platform.python_version())')"
  for package in torch triton cupy-cuda13x cupy-cuda12x pybind11 open_clip_torch faiss-gpu cuvs-cu13 cuml-cu13 flashlib; do
    version=$("$python" -c 'import importlib.metadata as m, sys; print(m.version(sys.argv[1]))' "$package" 2>/dev/null) &&
      note facts "$package" "$version"
  done
  true
}

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader --id=0 | tr -d '[:space:]')
export -f facts note
export python work json device capability
step facts 20 bash -c facts

# ---- build: without it there is only Triton, which needs _core too

architecture=${capability/./}
[[ $architecture == 90 ]] && architecture=90a
build() {
  cmake -G Ninja -S . -B build -DCMAKE_BUILD_TYPE=Release -DCLIPSCAN_CUDA_ARCHITECTURES="$architecture-real" \
    -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" &&
    ninja -C build -k 0
  local code=$?
  cp build/_core*.so build/_cuda*.so clipscan/
  return $code
}
export -f build
export architecture
step build 150 bash -c build
if ! compgen -G "clipscan/_core*.so" >/dev/null; then
  say "without _core there is nothing to measure; all that was said: $log"
  exit 1
fi

# ---- smoke: a process each, so that a kernel that hangs or takes its device along is known by name

checks=(encode copies density filter-mma tables-mma)
[[ $architecture == 90a ]] && checks+=(filter-wgmma tables-wgmma)
checks+=(triton)
for check in "${checks[@]}"; do
  timeout --kill-after=5 60 "$python" bench/gpu/smoke.py "$check" >"smoke-$check" 2>&1 &
  pids+=($!)
done
right=" "
for i in "${!checks[@]}"; do
  check=${checks[$i]}
  wait "${pids[$i]}"
  code=$?
  said=$(grep "^$check: " "smoke-$check" | tail -n 1 | cut -d ' ' -f 2-)
  { echo "--- smoke $check" && cat "smoke-$check"; } >>"$log"
  [[ -n $said ]] || said="WRONG: $(words $code); $(tail -n 1 "smoke-$check" | cut -c 1-200)"
  say "smoke $check: $said"
  note smoke "$check" "$said"
  case $code in
    0) right+="$check " ;;
    3) ;;  # left out, for want of a library
    *) failures=$((failures + 1)) ;;
  esac
done
BACKENDS=
for backend in wgmma mma; do
  [[ $right == *" tables-$backend "* && $right == *" filter-$backend "* ]] && BACKENDS+="cuda-$backend "
done
[[ $right == *" triton "* ]] && BACKENDS+="triton"
export BACKENDS
say "measured further on: ${BACKENDS:-nothing, since no back-end is right}"

# ---- tests: both back-ends at once

several=$("$python" -c 'import xdist' 2>/dev/null && echo "-n 6")
without=
[[ $architecture == 90a && $BACKENDS != *wgmma* ]] && without="not wgmma and not any_small_set"  # they might hang
cuda_tests() {
  "$python" -m pytest -o addopts= -v -p no:cacheprovider $several -k "$without" \
    tests/test_cuda.py tests/test_cuda_{between,rows,errors,timing}.py tests/test_nvrtc.py
}
triton_tests() {
  "$python" -m pytest -o addopts= -v -p no:cacheprovider $several -k "not compiles_for" tests/test_triton_*.py
  local code=$?
  ((code == 5)) && return 0  # nothing to run without torch and Triton, which it says
  return $code
}
tests() {
  cuda_tests >tests-cuda 2>&1 &
  local first=$! second
  triton_tests >tests-triton 2>&1
  second=$?
  wait $first
  return $((second ? second : $?))
}
export -f cuda_tests triton_tests tests
export several without
touch tests-cuda tests-triton
step tests 110 bash -c tests
for name in cuda triton; do
  { echo "--- tests of $name" && cat "tests-$name"; } >>"$log"
  said=$(tail -n 1 "tests-$name" | tr -d =)
  [[ $said == *" in "*s* ]] ||
    said="not finished: $(grep -c ' PASSED' "tests-$name") passed, $(grep -c ' FAILED' "tests-$name") failed"
  say "tests of $name: $said"
  note tests "$name" "$said"
  failed=$(grep -oE '(FAILED tests/[^ ]*|tests/[^ ]* FAILED)' "tests-$name" | grep -oE 'tests/[^ ]*' | sort -u | head -n 20 | tr '\n' ' ')
  if [[ -n $failed ]]; then
    say "  failed: $failed"
    note tests "$name failed" "$failed"
  fi
done

# ---- how fast

why=
[[ -n $BACKENDS ]] || why="no back-end is right"
torch=$("$python" -c 'import torch' 2>&1) || why=${torch##*$'\n'}
gpu() {  # NAME SECONDS
  if [[ -n $why ]]; then
    say "$1: left out, $why"
    note steps "$1" "left out: $why"
  else
    step "$1" "$2" "$python" bench/gpu/steps.py "$1" --json "$json"
  fi
}
[[ $BACKENDS == *cuda* ]] && step kernels 60 "$python" -m clipscan bench kernels --json "$json"
gpu end-to-end 75
gpu peers 90
gpu sweep 80
gpu scaling 40
[[ $BACKENDS == *cuda* ]] && gpu tiles 40
if open_clip=$("$python" -c 'import open_clip' 2>&1); then
  step embed 40 "$python" -m clipscan bench embed --csv "$out/$stem-embed.csv"
else
  say "embed: left out, ${open_clip##*$'\n'}"
  note steps embed "left out: ${open_clip##*$'\n'}"
fi

# ---- where the time goes, and whether memory is used as it should

if ! command -v ncu >/dev/null; then
  note steps profile "left out: ncu is not installed"
elif [[ $BACKENDS == *cuda* ]]; then
  step profile 60 ncu --clock-control none --set full --profile-from-start off --kernel-name 'regex:filter_' \
    --log-file "$out/$stem-ncu.txt" "$python" bench/gpu/steps.py profile --json "$json"
fi
if ! command -v compute-sanitizer >/dev/null; then
  note steps sanitize "left out: compute-sanitizer is not installed"
elif [[ $BACKENDS == *cuda* ]]; then
  read -ra checks <<<"${right/ triton / }"  # torch's own kernels are not ours to check
  for tool in memcheck racecheck; do
    step "sanitize-$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$python" bench/gpu/smoke.py --small "${checks[@]}"
  done
fi

"$python" bench/gpu/table.py "$json"
echo "results: $json"
echo "all that was said: $log"
exit $((failures > 0))
