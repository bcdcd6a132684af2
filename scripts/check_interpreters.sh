#!/usr/bin/env bash
# Installs a wheel under every CPython from 3.10 to 3.14 on PATH, with the oldest packages that it
# allows and with the newest, and segments the demo's scan: all label maps must be the same bytes.
#
#   scripts/check_interpreters.sh WHEEL [DEMO]
#
# DEMO is a folder that `sgmf demo` wrote; without it, it is made in an environment of its own.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 WHEEL [DEMO]" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(realpath "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/tools"
"$scratch/tools/bin/pip" install --quiet --disable-pip-version-check uv
uv() { "$scratch/tools/bin/uv" --quiet "$@"; }

demo=${2:-$scratch/demo}
if [ ! -d "$demo" ]; then
  "$scratch/tools/bin/pip" install --quiet -c "$root/constraints.txt" "$wheel[demo,export]"
  "$scratch/tools/bin/sgmf" demo -o "$demo"
fi
cp "$demo"/icbm152_*.nii.gz "$scratch/scan.nii.gz"

# uv takes the oldest of what it is asked for by name alone.
mapfile -t requirements < <(unzip -p "$wheel" '*.dist-info/METADATA' |
  sed -n '/; *extra/d; s/^Requires-Dist: //p')

segment() {
  local python=$1 resolution=$2 label_map=$scratch/$1-$2.nii.gz
  uv venv --python "$python" --no-python-downloads --clear "$scratch/environment"
  uv pip install --python "$scratch/environment/bin/python" --only-binary :all: \
    --resolution "$resolution" "$wheel" "${requirements[@]}"
  "$scratch/environment/bin/sgmf" infer "$scratch/scan.nii.gz" -m "$demo/brain.sgmf" \
    -o "$label_map" >/dev/null
  cmp "$label_map" "${first:=$label_map}"
  "$scratch/environment/bin/python" - "$resolution" <<'P'
import platform, sys
from importlib.metadata import version
names = ("numpy", "nibabel", "onnxruntime", "pillow", "click")
print(platform.python_version(), sys.argv[1], *(f"{name} {version(name)}" for name in names))
P
}

first='' ran=0
for minor in 10 11 12 13 14; do
  python=python3.$minor
  "$python" -c '' 2>/dev/null || { echo "$python is not on PATH: not run"; continue; }
  for resolution in lowest-direct highest; do
    segment "$python" "$resolution"
    ran=$((ran + 1))
  done
done
[ "$ran" -gt 0 ] || { echo "no CPython from 3.10 to 3.14 is on PATH" >&2; exit 1; }
echo "$ran label maps, all the same bytes"
