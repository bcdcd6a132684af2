#!/usr/bin/env bash
# From a fresh Jetson with JetPack 6 or 7 to `sgmf infer` on its GPU; docs/how-to/jetson.md explains each step.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: examples/jetson_setup.sh [options] [MODEL.sgmf [SCAN...]]

Installs sgmf with the TensorRT plugin into a virtual environment, builds the engine of
MODEL.sgmf for this device, and segments each SCAN.

  --venv DIR     virtual environment to make or use (default: ~/sgmf)
  --power MODE   set this nvpmodel mode first; the modes are listed where none is given
  --clocks       hold the clocks at the mode's maximum until the next boot (jetson_clocks)
  --batch N      tiles at once (default: 1)
  --dry-run      print the commands, change nothing
  -h, --help     this text
TEXT
}

say() { printf '== %s\n' "$*"; }
fail() { printf 'jetson_setup: %s\n' "$*" >&2; exit 1; }

# Every command that changes something goes through here.
run() {
  if [[ $dry_run == yes ]]; then
    printf '+'
    printf ' %q' "$@"
    printf '\n'
  else
    "$@"
  fi
}

venv=$HOME/sgmf power='' clocks=no batch=1 dry_run=no
operands=()
while (($#)); do
  case $1 in
    --venv | --power | --batch)
      (($# > 1)) || fail "$1 needs a value; see --help"
      case $1 in
        --venv) venv=$2 ;;
        --power) power=$2 ;;
        --batch) batch=$2 ;;
      esac
      shift
      ;;
    --clocks) clocks=yes ;;
    --dry-run) dry_run=yes ;;
    -h | --help) usage; exit 0 ;;
    -*) fail "unknown option $1; see --help" ;;
    *) operands+=("$1") ;;
  esac
  shift
done
[[ $batch =~ ^[1-9][0-9]*$ ]] || fail "--batch $batch: expected a number above zero"
[[ -z $power || $power =~ ^[0-9]+$ ]] || fail "--power $power: expected the number of a mode"
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ -f $source/pyproject.toml ]] || fail "$source is no checkout of segmaformer; run the script from one"

# --- which JetPack
# The first line reads "# R36 (release), REVISION: 4.3, ...".
release_file=${JETSON_RELEASE_FILE:-/etc/nv_tegra_release}
[[ -r $release_file ]] || fail "there is no $release_file: this is no Jetson, or its system was replaced"
release=$(sed -n '1s/^# R\([0-9]*\).*/\1/p' "$release_file")
case $release in
  36) jetpack=6 ;;
  38 | 39) jetpack=7 ;;
  '') fail "$release_file does not say a release; expected a first line like '# R36 (release), ...'" ;;
  *) fail "L4T R$release is not supported; expected R36 (JetPack 6), R38 or R39 (JetPack 7)" ;;
esac
say "JetPack $jetpack (L4T R$release)"

# --- power
if [[ -n $power ]]; then
  say "power mode $power"
  run sudo nvpmodel -m "$power"
elif [[ -r /etc/nvpmodel.conf ]]; then
  say "power modes, for --power"
  sed -n 's/.*POWER_MODEL ID=\([0-9]*\) NAME=\([^ >]*\).*/  \1 \2/p' /etc/nvpmodel.conf
fi
if [[ $clocks == yes ]]; then
  say "clocks at the mode's maximum until the next boot"
  run sudo jetson_clocks
fi

# --- system packages: the CUDA compiler, TensorRT with its headers and Python module
say "CUDA, TensorRT and what builds the plugin"
run sudo apt-get update
run sudo apt-get install -y nvidia-jetpack python3-libnvinfer python3-venv g++

# --- the virtual environment sees the system's tensorrt module
say "sgmf in $venv"
run python3 -m venv --system-site-packages "$venv"
cuda=${CUDA_HOME:-/usr/local/cuda}
[[ $dry_run == yes || -x $cuda/bin/nvcc ]] || fail "there is no $cuda/bin/nvcc; set CUDA_HOME to CUDA's folder"
architecture=$([[ $jetpack == 6 ]] && echo 87 || echo '87;110')
# JetPack 6's pip takes no settings for the build, so they go through the environment.
run env "CUDACXX=$cuda/bin/nvcc" \
  "CMAKE_ARGS=-DSGMF_CUDA=ON -DSGMF_CUDA_ARCHITECTURES=$architecture" \
  "$venv/bin/pip" install "${source}[tensorrt]"
run "$venv/bin/sgmf" doctor

# --- a package, if one was named
((${#operands[@]})) || { say "next: $venv/bin/sgmf build MODEL.sgmf"; exit 0; }
model=${operands[0]}
[[ $dry_run == yes || -d $model ]] || fail "there is no package $model"
say "the engine of $model, which takes minutes the first time"
run "$venv/bin/sgmf" build "$model" --batch "$batch"
for scan in "${operands[@]:1}"; do
  say "segmenting $scan"
  run "$venv/bin/sgmf" infer "$scan" -m "$model" --backend tensorrt
done
