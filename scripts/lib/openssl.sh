# shellcheck shell=bash
# OpenSSL releases beside the system's: each in a tree of its own, unpacked from the Debian suite that has it, where the
# same harness runs (chroot in private mount and process namespaces, which end with the command). Needs root.

# The suites of each release; the last one is where OpenSSL itself comes from.
declare -A openssl_suites=([3.0]="bookworm" [3.5]="trixie" [3.6]="sid" [4.0]="sid experimental")
openssl_versions=(3.0 3.5 3.6 4.0)

tree_cache=$(realpath -m "${MTLS_CACHE:-$BUILD/openssl}")
tree_of() { printf '%s/%s\n' "$tree_cache" "$1"; }
system_openssl() { pkg-config --modversion libssl; }

# What a minimal system needs that scripts/setup takes for granted, and what test_mtlsize.py looks at.
tree_base=(base-files base-passwd bash coreutils dash diffutils findutils gawk grep hostname libc-bin mount netbase
    sed git postgresql-client wget)

# Packages of scripts/setup that only look at the source.
tree_leaves_out='^(clang|clang-format|libclang-rt-.*|mandoc|shellcheck)$'

tree_packages() {
    printf '%s\n' "${tree_base[@]}"
    "$TOP/scripts/setup" --list | grep -vE "$tree_leaves_out"
}

# The mirror that the system's own apt uses.
debian_mirror() {
    if [ -n "${MTLS_DEBIAN_MIRROR:-}" ]; then
        printf '%s\n' "$MTLS_DEBIAN_MIRROR"
        return
    fi
    # shellcheck disable=SC2016 # apt's own placeholders
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 -E '/debian/?$' ||
        die "no Debian mirror among apt's sources: set MTLS_DEBIAN_MIRROR"
}

# An apt of its own: nothing of the system's packages or lists is seen or touched. Prints its APT_CONFIG.
tree_apt() {
    local version=$1 folder=$2 suites suite mirror
    read -ra suites <<<"${openssl_suites[$version]}"
    mirror=$(debian_mirror)
    mkdir -p "$folder"/{lists/partial,cache/archives/partial,etc/apt.conf.d,etc/preferences.d,etc/sources.list.d}
    : >"$folder/status"
    for suite in "${suites[@]}"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$folder/etc/sources.list"
    cat >"$folder/apt.conf" <<END
Dir::State "$folder";
Dir::State::status "$folder/status";
Dir::Cache "$folder/cache";
Dir::Etc "$folder/etc";
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures { "$(dpkg --print-architecture)"; };
APT::Default-Release "${suites[-1]}";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
END
    if [ "${#suites[@]}" -gt 1 ] || [ "${suites[0]}" = sid ]; then
        # Rolling suites say until when they are valid, and a mirror may stand still; the signature is checked.
        echo 'Acquire::Check-Valid-Until "false";' >>"$folder/apt.conf"
    fi
    printf '%s\n' "$folder/apt.conf"
}

# tree_unpack ROOT PACKAGES-FOLDER: without maintainer scripts; what they would do for us follows by hand.
tree_unpack() {
    local root=$1 debs=$2 name
    mkdir -p "$root/usr"
    for name in bin sbin lib lib64; do
        mkdir -p "$root/usr/$name"
        ln -s "usr/$name" "$root/$name"
    done
    # shellcheck disable=SC2016
    printf '%s\0' "$debs"/*.deb | xargs -0 -P 2 -n 1 bash -c \
        'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink --numeric-owner -C "$0"' "$root"
    mkdir -p "$root"/{proc,sys,dev,run,tmp,etc,root}
    for name in passwd group; do
        cp "$root/usr/share/base-passwd/$name.master" "$root/etc/$name"
    done
    cp "$root/usr/share/libc-bin/nsswitch.conf" "$root/etc/nsswitch.conf" 2>/dev/null ||
        echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    : >"$root/etc/resolv.conf"
    chroot "$root" /sbin/ldconfig
    [ -e "$root/usr/bin/cc" ] || ln -s gcc "$root/usr/bin/cc"
    [ -e "$root/usr/bin/awk" ] || ln -s gawk "$root/usr/bin/awk"
}

# openssl_tree VERSION: makes the tree unless it is there and holds what is asked for.
openssl_tree() {
    local version=$1 tree part config wanted found
    tree=$(tree_of "$version") part=$tree.part
    wanted=$(tree_packages)
    if [ -f "$tree/packages" ] && [ "$(cat "$tree/packages")" = "$wanted" ]; then
        echo "the tree is there: $(cat "$tree/openssl")"
        return
    fi
    [ "$(id -u)" -eq 0 ] || die "a tree with OpenSSL $version needs root"
    rm -rf "$tree" "$part"
    mkdir -p "$part"
    # shellcheck disable=SC2064
    trap "rm -rf '$part'" EXIT
    config=$(tree_apt "$version" "$part/apt")
    APT_CONFIG=$config apt-get update -qq
    # shellcheck disable=SC2086
    APT_CONFIG=$config apt-get install -y -qq --download-only $wanted >/dev/null
    tree_unpack "$part/root" "$part/apt/cache/archives"
    found=$(chroot "$part/root" /usr/bin/openssl version)
    case $found in
    "OpenSSL $version."*) ;;
    *) die "${openssl_suites[$version]} has no OpenSSL $version today, but $found" ;;
    esac
    printf '%s\n' "$found" >"$part/openssl"
    printf '%s\n' "$wanted" >"$part/packages"
    rm -rf "$part/apt"
    mv "$part" "$tree"
    echo "made: $found"
}

# build_in_tree VERSION FOLDER: what the release itself calls deprecated is hidden, not only what 3.0 did.
build_in_tree() {
    # shellcheck disable=SC2016
    in_tree "$1" bash -euo pipefail -c \
        '. scripts/lib/common.sh; build gcc "$0" -Dc_args="-UOPENSSL_API_COMPAT -Werror=deprecated-declarations"' "$2"
}

# runs_on BUILT-WITH VERSION: the same major release, and no older.
runs_on() {
    [ "${1%%.*}" = "${2%%.*}" ] && [ "$(printf '%s\n' "$2" "$1" | sort -V | tail -n 1)" != "$1" ]
}

# in_tree VERSION COMMAND...: with the source (read-only), the build folders and the devices at their usual places.
in_tree() {
    local tree
    tree=$(tree_of "$1")
    shift
    setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --propagation private \
        bash "$TOP/scripts/lib/in-tree" "$tree/root" "$TOP" "$BUILD" "$tree_cache" "$@"
}

# tree_ignores VERSION: system tests that stay outside. The table of unmodified programs is made on the system, where
# they are installed in full. The programs of sid are linked with 3.6: a libmtls of OpenSSL 4 is none for them.
tree_ignores() {
    echo '--ignore-glob=*/test_programs_*.py'
    if [ "${1%%.*}" -ge 4 ]; then
        printf '%s\n' '--ignore-glob=*/test_preload*.py' '--ignore-glob=*/test_mtlsize*.py'
    fi
}

# A check of scripts/test: the table of doc/openssl.md has these releases, all green.
lint_openssl_table() { "$PYTHON" -B scripts/lib/openssl_table.py --check "${openssl_versions[@]}"; }
