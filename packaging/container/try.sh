#!/usr/bin/env bash
# Tries the container without one: its steps in a fresh folder, then its commands as a user without a name, on a read-only
# root, without a network, with an empty HOME. Needs root, bubblewrap and setpriv (util-linux).
#
#   try.sh [FOLDER]     works in FOLDER, by default a temporary one, which is removed
#   PREFIX=... try.sh   takes an installation that is there
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
user=12345
work=${1:-$(mktemp -d)}
[[ -n "${1:-}" ]] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{src,home,output}
chmod 755 "$work"
chown $user "$work"/{home,output}

if [[ -z "${PREFIX:-}" ]]; then
  PREFIX=$work/prefix
  (cd "$root" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create) |
    tar --extract --directory "$work/src"
  "$work/src/packaging/container/install.sh" anamorph "$PREFIX" cpu
fi

# COMMAND...: as `docker run --read-only --network none --user 12345` runs it, with HOME, the output and /var/tmp mounted.
contained() {
  bwrap --ro-bind / / --dev /dev --proc /proc --perms 1777 --tmpfs /var/tmp \
    --bind "$work/home" "$work/home" --bind "$work/output" "$work/output" --chdir / --unshare-net --unshare-pid --die-with-parent \
    --clearenv --setenv PATH "$PREFIX/bin:/usr/bin:/bin" --setenv HOME "$work/home" --setenv TMPDIR /var/tmp \
    --setenv ANAMORPH_INPUT "$work/output/scans" --setenv ANAMORPH_OUTPUT "$work/output/fields" --setenv ANAMORPH_SUBMIT "${ANAMORPH_SUBMIT:-}" \
    --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_SETPCAP \
    setpriv --reuid $user --regid $user --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
}

echo "== who, and what may be written"
contained sh -c 'id; if (: > /written) 2>/dev/null || (: > "$1/written") 2>/dev/null; then echo "the root can be written to" >&2; exit 1; fi' \
  sh "$PREFIX"

echo "== anamorph demo"
contained anamorph demo -o "$work/output/demo" --size 64 --quiet
contained sh -c 'test -s "$1/report.html" && test -s "$1/warped.nii.gz"' sh "$work/output/demo"

echo "== Learn2Reg: a made data set through the entry point of the container"
contained anamorph demo --dataset abdomen --patients 4 -o "$work/output/made" --quiet
mv "$work/output/made/AbdomenCTCT" "$work/output/scans"
contained learn2reg
contained anamorph evaluate "$work/output/fields" --dataset "$work/output/scans" -o "$work/output/evaluation"

echo "== what was written elsewhere"
find "$work/home" -mindepth 1 -printf '%P\n'
test -z "$(find "$work/home" -mindepth 1 -print -quit)"
echo "nothing"
