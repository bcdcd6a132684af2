#!/bin/sh
# Fuzzes the opening of packages, their signatures, the cache of engines, the reading and shortening of networks, the decoding of images,
# and shapes, strides and affines, each for a number of seconds; then prints the coverage and the
# number of executions, or the finding.
# Needs clang with libFuzzer (Debian: clang).
#
#   runtime/native/checks/check_fuzz.sh [SECONDS] [BUILD_FOLDER]
set -eu

native=$(cd "$(dirname "$0")/.." && pwd)
seconds=${1:-600}
build=${2:-$(mktemp -d)}
mkdir -p "$build"

cmake -S "$native" -B "$build" -DCMAKE_CXX_COMPILER=clang++ \
  -DSGMF_CUDA=OFF -DSGMF_FUZZ=ON -DSGMF_SANITIZE=address,undefined >"$build/configure.log"
cmake --build "$build" --target fuzz_open_package fuzz_coarse_model fuzz_self_contained \
  fuzz_segment_volume fuzz_run_lengths fuzz_signature fuzz_engine_cache >"$build/build.log"

mkdir -p "$build/packages" "$build/networks" "$build/volumes" "$build/images" \
  "$build/signatures" "$build/engines"
cp "$native/checks/fuzz/manifest.json" "$build/packages/"
cp "$native/checks/fuzz/upsampling.onnx" "$build/networks/"
cp "$native/checks/fuzz/signature.json" "$build/signatures/"
cp "$native/checks/fuzz/engine.json" "$build/engines/"
for target in open_package:packages coarse_model:networks self_contained:networks segment_volume:volumes \
  run_lengths:images signature:signatures engine_cache:engines; do
  name=${target%%:*}
  echo "== $name, $seconds s"
  "$build/checks/fuzz/fuzz_$name" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=60 -len_control=0 \
    -print_final_stats=1 -print_funcs=0 -artifact_prefix="$build/" "$build/${target##*:}" >"$build/$name.log" 2>&1 || {
    tail -n 60 "$build/$name.log"
    exit 1
  }
  grep -E 'DONE|number_of_executed_units' "$build/$name.log"
done
