# Sourced by the scripts of hack/: where things are, how progress is shown, how missing programs are had.
# Starts nothing by itself. Needs bash, Debian 12 and root.
set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BIN=$REPO/target/bin

# What is slow to make and does not depend on the checkout: peers, Debian trees, VM images. In this checkout, unless
# there is a place that serves all of them (.ci/run makes one).
SHARED_CACHE=/var/cache/rt-tests
CACHE=$REPO/target/cache
[ ! -d $SHARED_CACHE ] || CACHE=$SHARED_CACHE
CACHE=${RT_CACHE:-$CACHE}

if [ -t 2 ]; then BOLD=$'\e[1m' PLAIN=$'\e[0m'; else BOLD='' PLAIN=''; fi

# say WORDS: what is being done, on stderr.
say() { printf '%s==>%s %s\n' "$BOLD" "$PLAIN" "$*" >&2; }

# die WORDS: ends the script with a message.
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# quietly COMMAND…: shows the output only if the command fails.
quietly() {
    local output
    output=$(mktemp)
    if "$@" >"$output" 2>&1 </dev/null; then rm -f "$output"; return 0; fi
    cat "$output" >&2
    rm -f "$output"
    die "this failed: $*"
}

need_root() { [ "$(id -u)" = 0 ] || die "needs root (namespaces, mounts, packages): run it with sudo"; }

# need_packages NAME…: installs the Debian packages that are missing. No package's service is started.
need_packages() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return 0
    need_root
    say "installing Debian packages: ${missing[*]}"
    # Lists that are missing or old only show when the install fails.
    install_packages "${missing[@]}" >/dev/null 2>&1 || {
        quietly apt-get update -q
        quietly install_packages "${missing[@]}"
    }
}

install_packages() {
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends "$@" </dev/null
}

# need_rust: a Rust toolchain, found where rustup puts it even if PATH lacks it.
need_rust() {
    command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    command -v cargo >/dev/null || die "no cargo found: install a Rust toolchain (rustup.rs), 1.95 or newer"
    need_packages gcc libc6-dev binutils
}

# choose_target: sets TARGET to what static programs are built for: musl where rustup has or can get it, else glibc.
choose_target() {
    local arch
    arch=$(uname -m)
    TARGET=$arch-unknown-linux-musl
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$TARGET/lib" ]; then return; fi
    if command -v rustup >/dev/null; then
        say "adding the Rust target $TARGET"
        rustup target add "$TARGET" >/dev/null 2>&1 && return
    fi
    TARGET=$arch-unknown-linux-gnu
    say "no musl target to be had: static glibc instead"
    export RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static"
}
