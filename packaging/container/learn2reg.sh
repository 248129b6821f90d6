#!/bin/sh
# What the container does when Learn2Reg runs it: scans in /input, a field per pair in /output.
# ANAMORPH_SUBMIT has further options of `anamorph submit`, such as "--names short"; so has the command line of the container.
# shellcheck disable=SC2086
exec anamorph submit --container --dataset "${ANAMORPH_INPUT:-/input}" --out "${ANAMORPH_OUTPUT:-/output}" \
  --zero-failed --overwrite ${ANAMORPH_SUBMIT:-} "$@"
