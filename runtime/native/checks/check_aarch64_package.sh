#!/usr/bin/env bash
# Runs the wheel for 64-bit Arm under QEMU: `sgmf infer` of the demo's scan must write the bytes that
# this machine writes, and `sgmf doctor` must name the NEON kernels. Nothing is installed or mounted:
# the distribution's packages for arm64 are unpacked into a folder.
#
#   runtime/native/checks/check_aarch64_package.sh WHEEL DEMO FOLDER [SUITE:PYTHON:ONNXRUNTIME]...
#
# DEMO is a folder that `sgmf demo` wrote; FOLDER keeps the downloads for the next time. By default
# bookworm:3.11:1.23.2, the ONNX Runtime of JetPack 6, and trixie:3.13:1.31.1. Ubuntu, which JetPack
# is based on, has Python 3.10 in jammy and 3.12 in noble.
#
# Needs sgmf, mmdebstrap, and QEMU 10 or newer in QEMU or as qemu-aarch64 on PATH.
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: $0 WHEEL DEMO FOLDER [SUITE:PYTHON:ONNXRUNTIME]..." >&2; exit 2; }
wheel=$(realpath "$1")
demo=$(realpath "$2")
folder=$(mkdir -p "$3" && realpath "$3")
shift 3
[ $# -gt 0 ] || set -- bookworm:3.11:1.23.2 trixie:3.13:1.31.1
qemu=${QEMU:-qemu-aarch64}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Earlier ones compute some NEON instructions in another way, or lack them.
version=$("$qemu" --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
[ "$version" -ge 10 ] || { echo "$qemu is of version $version; 10 or newer is needed" >&2; exit 2; }

# into FOLDER PYTHON PACKAGE...: installs wheels for 64-bit Arm.
python3 -m venv "$scratch/tools"
into() {
  local target=$1 python=$2
  shift 2
  "$scratch/tools/bin/pip" install --quiet --disable-pip-version-check --no-compile \
    --target "$target" --only-binary :all: --python-version "$python" --implementation cp \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux2014_aarch64 "$@"
}

check() {
  local suite=$1 python=$2 onnxruntime=$3
  local root=$folder/$suite packages=$folder/$suite-$python-$onnxruntime
  [ -d "$root" ] || mmdebstrap --quiet --variant=extract --architectures=arm64 \
    --include="python$python,libstdc++6" "$suite" "$root"
  [ -e "$root/lib" ] || ln -s usr/lib "$root/lib"  # as an installation makes it
  [ -d "$packages" ] ||
    into "$packages" "$python" click nibabel numpy pillow "onnxruntime==$onnxruntime"
  into "$scratch/$suite" "$python" --no-deps "$wheel"

  on_arm() {
    PYTHONPATH=$scratch/$suite:$packages PYTHONDONTWRITEBYTECODE=1 SGMF_CACHE=$scratch/cache \
      "$qemu" -L "$root" "$root/usr/bin/python$python" -m segmaformer "$@"
  }
  on_arm doctor >"$scratch/doctor"
  grep -q neon "$scratch/doctor" ||
    { cat "$scratch/doctor"; echo "doctor does not name the NEON kernels" >&2; exit 1; }
  on_arm infer "$scratch/scan.nii.gz" -m "$demo/brain.sgmf" -o "$scratch/$suite.nii.gz"
  cmp "$scratch/$suite.nii.gz" "$scratch/here.nii.gz"
  echo "Python $python, ONNX Runtime $onnxruntime: the label map of 64-bit Arm is that of $(uname -m)"
}

# One tile of the brain: QEMU takes a minute for it.
python3 - "$demo"/icbm152_*.nii.gz "$scratch/scan.nii.gz" <<'P'
import sys, nibabel
nibabel.save(nibabel.load(sys.argv[1]).slicer[40:150, 40:190, 40:160], sys.argv[2])
P
sgmf infer "$scratch/scan.nii.gz" -m "$demo/brain.sgmf" -o "$scratch/here.nii.gz"
for each in "$@"; do
  IFS=: read -r suite python onnxruntime <<<"$each"
  check "$suite" "$python" "$onnxruntime"
done
