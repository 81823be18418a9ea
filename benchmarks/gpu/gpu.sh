#!/usr/bin/env bash
# Builds, tests, sanitizes and measures on a GPU, and writes <gpu>-<date>.json into $OUT.
#
#   benchmarks/gpu.sh [all | build test sanitize peer train localize raster ...]
#
# Every step takes less than nine minutes, can be repeated, and keeps its log and its figures in build/gpu/;
# the report gathers whatever is there into two files in $OUT: the JSON, and gpu.log with all logs.
#
#   SCENE=FOLDER       what is mapped: 7-Scenes RedKitchen, in posed folders
#   OUT=FOLDER         where the report goes (benchmarks/results)
#   PYTHON=python3     an interpreter with torch for CUDA and pytest
#   PACKAGES=FOLDER    *.whl and *.tar.xz with what that interpreter lacks; unset = it lacks nothing
#   LIMIT=530          seconds that a step may take
#   SANITIZERS=...     tools of compute-sanitizer (memcheck racecheck synccheck initcheck)
#   GSPLAT_COMMIT=...  what is recorded as the commit where there is no .git
#   GSPLAT_DRY_RUN=1   the same commands on the CPU with next to no work: checks this script, measures nothing
set -uo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
OUT=${OUT:-benchmarks/results}
SCENE=${SCENE:-${GSPLATLOC_DATA:-../shared/data}/pgt_7scenes_redkitchen}
SANITIZERS=${SANITIZERS:-memcheck racecheck synccheck initcheck}
WORK=$PWD/build/gpu
LIMIT=${LIMIT:-530}
DEVICE=cuda
CUDA=ON
CAPS=()
if [[ ${GSPLAT_DRY_RUN:-} == 1 ]]; then
  DEVICE=cpu
  CUDA=OFF
  CAPS=(--dry_run)
  WORK=$PWD/build/gpu-dry # its figures must not get into a real report
fi
SITE=$WORK/site
export PYTHONPATH=$SITE:$PWD PYTHONUNBUFFERED=1 GSPLAT_DRY_RUN=${GSPLAT_DRY_RUN:-}
export TORCH_EXTENSIONS_DIR=$WORK/extensions MAX_JOBS=${MAX_JOBS:-$(nproc)}
mkdir -p "$WORK" "$SITE" "$OUT"

# What the interpreter lacks, then the rasterizer for the GPU at hand, into a folder of their own.
build() {
  local wheels=("${PACKAGES:-/nonexistent}"/*.whl) archives=("${PACKAGES:-/nonexistent}"/*.tar.xz)
  if [[ -e ${archives[0]} ]]; then
    for archive in "${archives[@]}"; do "$PYTHON" -m tarfile -e "$archive" "$SITE" || return 1; done
  fi
  if [[ -e ${wheels[0]} ]]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --upgrade --target "$SITE" "${wheels[@]}" || return 1
  fi
  local tools=()
  # Without a network the build tools must be there already; what they compiled is then kept for the next time.
  "$PYTHON" -c "import nanobind, scikit_build_core" 2>/dev/null &&
    tools=(--no-build-isolation --config-settings=build-dir="$WORK/native")
  GSPLAT_CUDA=$CUDA CMAKE_BUILD_PARALLEL_LEVEL=$MAX_JOBS "$PYTHON" -m pip install -q --no-deps --upgrade \
    "${tools[@]}" --target "$SITE" ./submodules/diff-gaussian-rasterization || return 1
  "$PYTHON" -c "
import gsplatloc_kernels as native, torch
print('torch', torch.__version__, 'GPU', torch.cuda.is_available(), 'rasterizer with CUDA', native.has_cuda())
raise SystemExit(0 if native.has_cuda() or '$DEVICE' == 'cpu' else 'the rasterizer has no CUDA half')"
}

run_tests() {
  "$PYTHON" -m pytest tests/cuda/test_on_gpu.py tests/device -rs -p no:cacheprovider --durations=10
}

# A sanitizer makes a run a hundred times slower: each tool has its share of the time.
sanitize() {
  local status=0 tool
  for tool in $SANITIZERS; do
    echo "== $tool"
    if [[ $DEVICE == cpu ]]; then
      "$PYTHON" -m tests.cuda.sanitize --device cpu || status=1
      break
    fi
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 125 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$PYTHON" -m tests.cuda.sanitize --device cuda
    local code=$?
    echo "== $tool exited with $code"
    # Kernels of torch and its libraries read padding: initcheck is reported, not enforced.
    [[ $code == 0 || $tool == initcheck ]] || status=1
  done
  return $status
}

# gsplat compiles its kernels when it is first imported, for the architectures in TORCH_CUDA_ARCH_LIST.
peer() {
  if [[ $DEVICE == cuda && -z ${TORCH_CUDA_ARCH_LIST:-} ]]; then
    TORCH_CUDA_ARCH_LIST=$("$PYTHON" -c "import torch; print('%d.%d' % torch.cuda.get_device_capability())")
    export TORCH_CUDA_ARCH_LIST
  fi
  "$PYTHON" -c "from benchmarks.gpu.raster import peer_problem; print(peer_problem() or 'gsplat is ready')"
}

map() { "$PYTHON" -m benchmarks gpu map --step "$1" --device "$DEVICE" --scene "$SCENE" --work "$WORK" "${CAPS[@]}"; }
train() { map train; }
localize() { map localize; }

raster() {
  local scenes=(cube-100k cube-1M) few=()
  if [[ $DEVICE == cpu ]]; then
    scenes=(cube-1k)
    few=(--sizes 64x48 --repeats 1)
  fi
  [[ -d $WORK/map/point_cloud ]] && scenes+=("$WORK/map")
  "$PYTHON" -m benchmarks gpu raster --device "$DEVICE" --scenes "${scenes[@]}" "${few[@]}" --json "$WORK/raster.json"
}

run_step() {
  local name=$1 body=$1 start=$SECONDS
  [[ $name == test ]] && body=run_tests # `test` is the shell's
  echo "### $name"
  export -f build run_tests sanitize peer map train localize raster
  timeout --kill-after=10 "$LIMIT" bash -c "set -uo pipefail; $(declare -p CAPS); $body" 2>&1 | tee "$WORK/$name.log"
  local code=${PIPESTATUS[0]}
  printf '{"exit_code": %d, "seconds": %d, "finished": "%s"}\n' "$code" $((SECONDS - start)) \
    "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$WORK/$name.step.json"
  echo "### $name exited with $code after $((SECONDS - start)) s"
  return "$code"
}

export PYTHON OUT SCENE WORK SITE DEVICE CUDA SANITIZERS
STEPS=("$@")
[[ ${#STEPS[@]} == 0 || ${STEPS[0]} == all ]] && STEPS=(build test sanitize peer train localize raster)
failed=()
for step in "${STEPS[@]}"; do
  case $step in
    build | test | sanitize | peer | train | localize | raster) ;;
    *)
      echo "expected steps among build test sanitize peer train localize raster, found '$step'" >&2
      exit 2
      ;;
  esac
  run_step "$step" || {
    failed+=("$step")
    [[ $step == build ]] && break
  }
done
"$PYTHON" -m benchmarks gpu report --work "$WORK" --out "$OUT" --command "benchmarks/gpu.sh ${STEPS[*]}"
[[ ${#failed[@]} == 0 ]] || {
  echo "failed: ${failed[*]}" >&2
  exit 1
}
