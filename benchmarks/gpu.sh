#!/usr/bin/env bash
# What is measured and trained when a GPU is at hand; needs this checkout, Python with PyTorch, and the wheels in .whl.
# Options are those of benchmarks/gpu/__main__.py, which tells what is done.
set -uo pipefail
export ANAMORPH_GPU_BEGUN=${EPOCHREALTIME/,/.}
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
python=${PYTHON:-python3}
if compgen -G ".whl/*.whl" >/dev/null; then
  site=$(mktemp -d)
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .whl/*.whl || exit
  PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" PATH="$site/bin:$PATH"
fi
# Where kernels are not built yet, and nanobind and a compiler are at hand; the readable twins do their work otherwise.
compgen -G "src/anamorph/_kernels*" >/dev/null || PYTHONPATH=${PYTHONPATH:-} make -s kernels PYTHON="$python" >/dev/null 2>&1 ||
  echo "the kernels could not be built: their twins are measured in their place"
export PYTHONPATH="$PWD/src:$PWD/tests/helpers:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "$python" -m benchmarks.gpu "$@"
