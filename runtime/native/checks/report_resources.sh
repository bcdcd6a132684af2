#!/bin/sh
# Builds the CUDA library as an installation does and prints, as a Markdown table, the registers
# that each kernel takes on each architecture. Fails where registers are spilled to memory.
# Needs nvcc and CMake.
set -eu

native=$(cd "$(dirname "$0")/.." && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

cmake -S "$native" -B "$build" -DSGMF_CUDA=ON -DCMAKE_CUDA_FLAGS=--resource-usage \
  >"$build/configure.log"
if ! cmake --build "$build" --target sgmf_cuda >"$build/build.log" 2>&1; then
  cat "$build/build.log" >&2
  exit 1
fi
awk -f "$native/checks/resources.awk" "$build/build.log"
