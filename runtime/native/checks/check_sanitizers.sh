#!/bin/sh
# Runs the examples and a stress test of eight threads under AddressSanitizer with
# UndefinedBehaviorSanitizer, and under ThreadSanitizer; then looks for memory that grows.
# ONNX Runtime itself is not instrumented: SGMF_ONNXRUNTIME names its library.
#
#   runtime/native/checks/check_sanitizers.sh PACKAGE.sgmf HEADER.txt [RUNS] [BUILD_FOLDER]
#
# PACKAGE has one channel and labels below 256; HEADER describes a raw volume for it, see
# examples/embedding/raw_volume.h. RUNS of one handle must leave memory as it was.
set -eu

native=$(cd "$(dirname "$0")/.." && pwd)
examples=$native/../../examples/embedding
checks=$native/../../tests/runtime/native/libsgmf
package=$1
header=$2
runs=${3:-1000}
build=${4:-$(mktemp -d)}
: "${SGMF_ONNXRUNTIME:?names libonnxruntime.so}"

# build_all FOLDER [SANITIZERS]
build_all() {
  folder=$build/$1
  sanitizers=${2:-}
  flags="-g -O1"
  if [ -n "$sanitizers" ]; then
    flags="$flags -fsanitize=$sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer"
  fi
  mkdir -p "$folder"
  cmake -S "$native" -B "$folder" -DSGMF_CUDA=OFF -DSGMF_SANITIZE="$sanitizers" \
    >"$folder/configure.log"
  cmake --build "$folder" --target sgmf >"$folder/build.log" 2>&1
  link="-I$native/include $folder/libsgmf/libsgmf.so -Wl,-rpath,$folder/libsgmf -pthread -lm"
  # shellcheck disable=SC2086
  {
    cc $flags -std=c11 -c "$examples/raw_volume.c" -I"$native/include" -o "$folder/raw_volume.o"
    cc $flags -std=c11 "$examples/segment_raw.c" "$folder/raw_volume.o" $link \
      -o "$folder/segment_raw"
    c++ $flags -std=c++17 "$examples/reconstruction_step.cc" "$folder/raw_volume.o" $link \
      -o "$folder/reconstruction_step"
    for check in stress endurance; do
      cc $flags -std=c11 -D_GNU_SOURCE "$checks/$check.c" $link -o "$folder/$check"
    done
  }
}

run_examples() {
  "$folder/segment_raw" "$package" "$header" "$folder/c.raw"
  "$folder/reconstruction_step" "$package" "$header" "$folder/cc.raw" 600
  cmp "$folder/c.raw" "$folder/cc.raw"
  "$folder/reconstruction_step" "$package" "$header" "$folder/none.raw" 0 || [ $? -eq 20 ]
}

export ASAN_OPTIONS=detect_stack_use_after_return=1
export TSAN_OPTIONS="suppressions=$native/checks/tsan_suppressions.txt"
check() {
  echo "== $2"
  build_all "$1" "$2"
  run_examples
  "$folder/stress" "$package" 4 1
  "$folder/stress" "$package" 1 2
}
check memory address,undefined
check threads thread

echo "== growth over $runs runs"
build_all plain
# Without the allocator's thread caches every byte that is in use counts.
GLIBC_TUNABLES=glibc.malloc.tcache_count=0 "$folder/endurance" "$package" "$runs"
