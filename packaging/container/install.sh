#!/usr/bin/env bash
# Installs anamorph so that any user can run it from a read-only root: the steps of Dockerfile, of anamorph.def and of try.sh.
#
#   install.sh system                      what it needs of Debian to run (as root)
#   install.sh compiler                    what it needs of Debian to be built (as root)
#   install.sh anamorph PREFIX cpu|cuda    anamorph and its models from this folder into the virtual environment PREFIX
#
# PYTHON        3.11 or newer, which any user may run; Debian's by default
# TORCH_INDEX   where the build of PyTorch for CPUs alone comes from; empty: from where pip takes everything
# EXTRAS        of pyproject.toml
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

debian() {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "$@"
  rm -rf /var/lib/apt/lists/*
}

case "${1:-}" in
  system) debian python3 libgomp1 ca-certificates ;;
  compiler) debian python3-venv python3-dev g++ ;;
  anamorph)
    prefix=$2 device=$3
    "${PYTHON:-/usr/bin/python3}" -m venv "$prefix"
    pip="$prefix/bin/python -m pip --disable-pip-version-check --no-cache-dir"
    # The versions that the tests run with.
    grep '^[a-z0-9]' requirements.lock | tr -d '\\' > "$prefix/versions.txt"
    case "$device" in
      cpu)
        index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
        $pip install --quiet ${index:+--index-url "$index"} --constraint "$prefix/versions.txt" torch
        ;;
      cuda) ;; # what PyPI has for Linux brings the libraries of CUDA; the driver comes from the machine
      *) echo "install.sh: cpu or cuda, not '$device'" >&2; exit 2 ;;
    esac
    extras=${EXTRAS-classify,cohort,dicom,mesh,transforms}
    $pip install --quiet --constraint "$prefix/versions.txt" ".${extras:+[$extras]}" ./packages/anamorph-models
    install -m 755 packaging/container/learn2reg.sh "$prefix/bin/learn2reg"
    # Nothing can be written later, and those who run it do not own it.
    "$prefix/bin/python" -m compileall -qq "$prefix/lib" || true  # some packages carry files of later versions
    chmod -R a+rX "$prefix"
    "$prefix/bin/anamorph" --version
    ;;
  *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
