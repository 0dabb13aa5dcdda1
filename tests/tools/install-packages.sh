#!/bin/sh
# Installs the Debian packages named as arguments that are missing, after saying so.
# Exit codes: 0 all there, 1 can't be installed here (stderr says why and what to do).
set -u

missing=""
for package in "$@"; do
    if command -v dpkg-query >/dev/null 2>&1; then
        status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)
        [ "$status" = "install ok installed" ] || missing="$missing $package"
    fi
done

if ! command -v dpkg-query >/dev/null 2>&1; then
    # Not a Debian: trust what is there, and say what would be needed if it is not enough.
    if command -v gcc >/dev/null 2>&1 && pkg-config --exists libxxhash libuv fuse3 libarchive 2>/dev/null; then
        exit 0
    fi
    echo "docdb: this system has no dpkg; install the equivalents of these Debian packages by hand: $*" >&2
    exit 1
fi

[ -n "$missing" ] || exit 0
echo "Installing missing development packages:$missing"

sudo=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "docdb: can't install$missing: not root and there is no sudo; as root run: apt-get install$missing" >&2
        exit 1
    fi
    sudo="sudo"
fi

install_missing() {
    # shellcheck disable=SC2086  # both are lists of words
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
# The package lists of a fresh machine are empty or old; update them only when the first try fails.
if ! install_missing >"$log" 2>&1 && ! { $sudo apt-get update >"$log" 2>&1 && install_missing >>"$log" 2>&1; }; then
    tail -n 15 "$log" >&2
    echo "docdb: can't install$missing (see above); install them by hand and run make again" >&2
    exit 1
fi
