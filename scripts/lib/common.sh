# shellcheck shell=bash disable=SC2034
# What setup, demo and test share: where things are, how steps are printed and counted.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHON=/usr/bin/python3 # the system's: its packages are where python3-pytest is
BUILD=$(realpath -m "${MTLS_BUILD:-$TOP/build}")

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' off=$'\e[0m'
else
    bold='' red='' green='' off=''
fi

say() { printf '%s%s%s\n' "$bold" "$*" "$off"; }
die() {
    printf '%s%s%s\n' "$red" "$*" "$off" >&2
    exit 1
}

# configure FOLDER MESON-OPTION...: sets a build folder up, or changes one that is there.
configure() {
    local folder=$1
    shift
    if [ -f "$folder/build.ninja" ]; then
        meson configure "$folder" "$@" >/dev/null
    else
        meson setup "$folder" "$TOP" "$@"
    fi
}

# build COMPILER FOLDER MESON-OPTION...: warnings are errors here.
build() {
    export CC=$1
    shift
    configure "$@" -Dwerror=true -Dtests=true # the demo leaves them out where cmocka is missing
    ninja -C "$1"
}
