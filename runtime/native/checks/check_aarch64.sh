#!/bin/sh
# Builds the op library for 64-bit Arm and runs its self-checks there, or under QEMU elsewhere.
# Needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user).
set -eu

native=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$(mktemp -d)}
compiler=${CXX:-aarch64-linux-gnu-g++}
mkdir -p "$build"

cmake -S "$native" -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER="$compiler" -DSGMF_CUDA=OFF >"$build/configure.log"
cmake --build "$build" >"$build/build.log"

run() {
  case $(uname -m) in
    aarch64 | arm64) "$@" ;;
    *) qemu-aarch64 -L /usr/aarch64-linux-gnu "$@" ;;
  esac
}

for check in selective_scan_check token_ops_check; do
  "$compiler" -std=c++17 -O2 -I "$native" \
    "$native/../../tests/runtime/native/$check.cc" \
    -L "$build" -lsgmf_ops -Wl,-rpath,"$build" -o "$build/$check"
  run "$build/$check"
done
