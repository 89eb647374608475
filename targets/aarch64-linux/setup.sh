#!/usr/bin/env bash
# What it takes to build for AArch64 Linux and to run the result here: a linker with its C library, an emulator, and a Rust
# standard library of the target. Brings what is missing where it may (root, with apt), else names it. Prints the
# variables to build with:
#
#     eval "$(targets/aarch64-linux/setup.sh)"
#
# The standard library is rustup's (`rustup target add aarch64-unknown-linux-gnu`) if it is there. If not, a whole compiler of Debian's
# unstable release is unpacked, and not installed, to $EDGE_AARCH64 or ~/.cache/edge-aarch64: 0.2 GB to fetch, 0.7 GB on disk.
set -euo pipefail

target=aarch64-unknown-linux-gnu
home=${EDGE_AARCH64:-$HOME/.cache/edge-aarch64}
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)

refuse() {
    echo "setup.sh: $*" >&2
    exit 1
}

may_install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null
}

# The linker, the C library and the emulator.
packages=()
command -v aarch64-linux-gnu-gcc >/dev/null || packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
[ -n "$emulator" ] || packages+=(qemu-user-static)
if [ "${#packages[@]}" -gt 0 ]; then
    may_install || refuse "missing, to be installed by root: ${packages[*]}"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
    emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64)
fi

# Fetches Debian's unstable compiler with the standard libraries of this machine and of the target, which are of one version, and
# unpacks them to "$home". Its lists and its state are its own: the system's apt does not see unstable.
unpack_compiler() {
    local work mirror libraries lib
    [ "$(dpkg --print-architecture)" = amd64 ] || refuse "no compiler to unpack for $(dpkg --print-architecture)"
    mirror=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" { print $2; exit }')
    [ -n "$mirror" ] || refuse "no Debian mirror among this machine's sources; rustup target add $target would do"
    work=$(mktemp -d)
    trap 'rm -rf "'"$work"'"' EXIT
    mkdir -p "$work"/{lists,cache/archives}/partial "$work"/debs
    touch "$work/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/sources.list"
    cat >"$work/apt.conf" <<CONF
Dir::Etc::SourceList "$work/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$work/lists";
Dir::State::Status "$work/status";
Dir::Cache "$work/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
APT::Architectures { "amd64"; "arm64"; };
CONF
    export APT_CONFIG=$work/apt.conf
    apt-get update -q >&2
    # What the compiler is linked with, down to its C library; not the linker that its package asks for.
    libraries=$(apt-cache depends libstd-rust-dev | sed -n 's/^ *Depends: \(libstd-rust-[0-9.]*\)$/\1/p')
    libraries=$(apt-cache depends --recurse --important "$libraries" | grep '^[a-z]' | grep -v : | sort -u)
    (cd "$work/debs" && apt-get download -q rustc libstd-rust-dev libstd-rust-dev:arm64 $libraries >&2)
    unset APT_CONFIG

    rm -rf "$home"
    mkdir -p "$home"/{bin,root/usr/lib,root/usr/lib64}
    ln -s usr/lib usr/lib64 "$home/root"
    for deb in "$work"/debs/*.deb; do
        dpkg-deb -x "$deb" "$home/root"
    done
    rm -rf "$home/root/usr/share"
    # Its own loader and C library: those of the system may be older.
    lib=$home/root/usr/lib/x86_64-linux-gnu
    cat >"$home/bin/rustc" <<RUSTC
#!/bin/sh
exec $lib/ld-linux-x86-64.so.2 --library-path $lib $home/root/usr/bin/rustc "\$@"
RUSTC
    chmod +x "$home/bin/rustc"
    "$home/bin/rustc" --version >"$home/version"
    cat "$home/version" >&2
}

# The standard library: that of the compiler in use, or of one unpacked.
if ! ls "$(rustc --print target-libdir --target "$target")"/libstd-*.rlib >/dev/null 2>&1; then
    if [ ! -e "$home/version" ]; then
        may_install || refuse "no standard library: rustup target add $target"
        unpack_compiler
    fi
    echo "export RUSTC=$home/bin/rustc"
fi
echo "export EDGE_EMULATOR=$emulator"
echo "export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc"
echo "export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/aarch64"
