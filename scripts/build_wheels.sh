#!/usr/bin/env bash
# Builds the source distribution, and from it the wheels for x86-64 and 64-bit Arm, on one x86-64
# Linux machine, and checks them. zig compiles against glibc 2.28 and links its C++ library in, which
# it compiles first where its cache lacks it: two processor minutes for each architecture. CUDA is
# left out, whatever is installed.
#
#   scripts/build_wheels.sh OUT
#
# Needs Python with venv, and readelf (Debian: binutils).
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 OUT, the folder for the distributions" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset CMAKE_ARGS SKBUILD_CMAKE_ARGS SKBUILD_CMAKE_DEFINE CXXFLAGS LDFLAGS CMAKE_CXX_COMPILER_LAUNCHER
export CMAKE_GENERATOR=Ninja

python3 -m venv "$scratch/tools"
. "$scratch/tools/bin/activate"
pip install --quiet --disable-pip-version-check -c "$root/constraints.txt" \
  auditwheel build cmake ninja nlohmann-json scikit-build-core twine ziglang
zig=$(python -c 'import ziglang, pathlib; print(pathlib.Path(ziglang.__file__).parent / "zig")')

python -m build --no-isolation --sdist --outdir "$out" "$root"
mkdir "$scratch/source"
tar -xzf "$out"/segmaformer-*.tar.gz -C "$scratch/source" --strip-components=1

build_wheel() {
  local processor=$1
  # -g0, since zig else writes debugging information, which takes a third of the time.
  printf '#!/bin/sh\nexec "%s" c++ -target %s-linux-gnu.2.28 -g0 "$@"\n' "$zig" "$processor" \
    >"$scratch/$processor-c++"
  chmod +x "$scratch/$processor-c++"
  CXX=$scratch/$processor-c++ _PYTHON_HOST_PLATFORM=manylinux_2_28_$processor \
    python -m build --no-isolation --wheel --outdir "$out" \
    -C build-dir="$scratch/$processor" -C install.strip=false \
    -C cmake.define.CMAKE_SYSTEM_NAME=Linux -C cmake.define.CMAKE_SYSTEM_PROCESSOR="$processor" \
    -C cmake.define.CMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY \
    -C cmake.define.CMAKE_SHARED_LINKER_FLAGS=-s -C cmake.define.SGMF_CUDA=OFF "$scratch/source"
}

build_wheel x86_64
build_wheel aarch64

twine check --strict "$out"/*
for wheel in "$out"/*.whl; do
  auditwheel show "$wheel" | tee "$scratch/shown"
  grep -Eq '"manylinux_2_(17|2[0-8])_' "$scratch/shown" ||
    { echo "$wheel needs a glibc newer than 2.28" >&2; exit 1; }
  rm -rf "$scratch/wheel"
  python -m zipfile -e "$wheel" "$scratch/wheel"
  echo "symbol versions of $(basename "$wheel"):"
  find "$scratch/wheel" -name '*.so*' -exec readelf --version-info --wide {} + |
    grep -o 'GLIBC[A-Z]*_[0-9.]*' | sort -uV | tr '\n' ' '
  echo
done
