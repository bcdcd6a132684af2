#!/bin/sh
# Builds the op library for 64-bit Arm and runs its self-check there, or under QEMU elsewhere.
# Needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user).
set -eu

native=$(cd "$(dirname "$0")" && pwd)
build=${1:-$(mktemp -d)}
compiler=${CXX:-aarch64-linux-gnu-g++}
mkdir -p "$build"

cmake -S "$native" -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER="$compiler" -DSGMF_CUDA=OFF >"$build/configure.log"
cmake --build "$build" >"$build/build.log"
"$compiler" -std=c++17 -O2 -I "$native/include" \
  "$native/../../tests/runtime/native/selective_scan_check.cc" \
  -L "$build" -lsgmf_ops -Wl,-rpath,"$build" -o "$build/selective_scan_check"

case $(uname -m) in
  aarch64 | arm64) "$build/selective_scan_check" ;;
  *) qemu-aarch64 -L /usr/aarch64-linux-gnu "$build/selective_scan_check" ;;
esac
