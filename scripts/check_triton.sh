#!/usr/bin/env bash
# Serves the demo's package by the Triton server in PyPI's nvidia-pytriton, on a processor: the
# configuration must parse by Triton's own schema, the labels must be those of `sgmf infer`, and a
# scan that cannot be right must be refused with the reason.
#
#   scripts/check_triton.sh WHEEL DEMO
#
# WHEEL is this project's, DEMO a folder that `sgmf demo` wrote. Needs Debian's libpython3.X of the
# python3 on PATH (Triton's stub loads it), glibc 2.35 and x86-64.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 WHEEL DEMO" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(realpath "$1") demo=$(realpath "$2")
scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$scratch"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1

python3 -m venv "$scratch/model"
"$scratch/model/bin/pip" install --quiet -c "$root/constraints.txt" "$wheel"
python3 -m venv "$scratch/client"  # whose protobuf is not the one that onnx takes
"$scratch/client/bin/pip" install --quiet nibabel 'tritonclient[grpc,http]'
"$scratch/client/bin/pip" install --quiet --no-deps nvidia-pytriton

sgmf() { "$scratch/model/bin/sgmf" "$@"; }
cp "$demo"/icbm152_*.nii.gz "$scratch/scan.nii.gz"
sgmf infer "$scratch/scan.nii.gz" -m "$demo/brain.sgmf" -o "$scratch/labels.nii.gz" \
  --backend onnxruntime
sgmf export-triton "$demo/brain.sgmf" -o "$scratch/repository" --backend onnxruntime

site() { "$scratch/$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
server=$(site client)/pytriton/tritonserver
mkdir "$scratch/backends"
cp -r "$server/backends/python" "$scratch/backends/"
install "$server/python_backend_stubs/$version/triton_python_backend_stub" \
  "$scratch/backends/python/"
# The stub takes the system's packages alone, and no PYTHONPATH.
sed -i "1i import sys; sys.path.append('$(site model)')" "$scratch/repository/brain/1/model.py"
LD_LIBRARY_PATH=$(site client)/nvidia_pytriton.libs \
  "$server/bin/tritonserver" --model-repository "$scratch/repository" \
  --backend-directory "$scratch/backends" --http-address 127.0.0.1 --http-port 18000 \
  --allow-grpc false --allow-metrics false >"$scratch/server.log" 2>&1 &
"$scratch/client/bin/python" "$root/tests/tools/triton_client.py" 127.0.0.1:18000 \
  "$scratch/repository/brain" "$scratch/scan.nii.gz" "$scratch/labels.nii.gz" ||
  { cat "$scratch/server.log" >&2; exit 1; }
