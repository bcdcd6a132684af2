#!/bin/sh
# Builds and installs libsgmf alone, without Python, and builds the examples against what is
# installed: with CMake's find_package and with pkg-config.
#
#   runtime/native/checks/check_install.sh [BUILD_FOLDER]
set -eu

native=$(cd "$(dirname "$0")/.." && pwd)
examples=$native/../../examples/embedding
build=${1:-$(mktemp -d)}
prefix=$build/prefix
mkdir -p "$build"

cmake -S "$native" -B "$build/native" -DSGMF_CUDA=OFF >"$build/configure.log"
cmake --build "$build/native" --target sgmf >"$build/build.log"
cmake --install "$build/native" --prefix "$prefix" >"$build/install.log"
(cd "$prefix" && find . -type f -o -type l | sort)

shown=$(nm -D --defined-only "$prefix/lib/libsgmf.so" | awk '$2 == "T" {print $3}')
echo "$shown" | grep -v '^sgmf_[a-z_]*@@SGMF_1$' && { echo "foreign symbols" >&2; exit 1; }

cmake -S "$examples" -B "$build/examples" -DCMAKE_PREFIX_PATH="$prefix" >"$build/examples.log"
cmake --build "$build/examples" >>"$build/examples.log"

if command -v pkg-config >/dev/null; then
  export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
  # shellcheck disable=SC2046
  ${CC:-cc} -std=c11 "$examples/segment_raw.c" "$examples/raw_volume.c" \
    $(pkg-config --cflags --libs sgmf) -Wl,-rpath,"$prefix/lib" -o "$build/segment_raw"
  "$build/segment_raw" 2>/dev/null && exit 1 || [ $? -eq 2 ]  # it starts, and asks for arguments
fi
"$build/examples/reconstruction_step" 2>/dev/null && exit 1 || [ $? -eq 2 ]
echo "libsgmf is installed in $prefix, the examples are in $build/examples"
