# shellcheck shell=bash disable=SC2034
# The checks of scripts/test that read the tree. Each prints what is wrong and returns 1.

lint_checks=(exported_symbols preload_needs pure_rooms comparisons rules_exist file_lengths left_overs headers_in_cxx
    shell manual_pages config_words format mutations evaluation)

c_files() { git ls-files '*.c' '*.h'; }

# report TEXT: fails if there is any text.
report() {
    [ -z "$1" ] && return 0
    printf '%s\n' "$1"
    return 1
}

exports_of() { nm -D --defined-only "$1" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort -u; }
listed_in() { sed -n '/global:/,/local:/p' "$1" | sed 's/[}] *[A-Z_0-9]*;//' | grep -oE '[A-Za-z_0-9]+;' | tr -d ';' | sort -u; }

# The shared objects export what their version scripts list, all of it and nothing else.
lint_exported_symbols() {
    diff <(listed_in mtls/libmtls.map) <(exports_of "$BUILD/mtls/libmtls.so")
    diff <(listed_in provider/module.map) <(exports_of "$(find "$BUILD/provider" -name '*.so' | head -n 1)")
}

# The preload library is in every child of a wrapped program: nothing but libc comes with it.
lint_preload_needs() {
    report "$(readelf -d "$BUILD/preload/libmtls-preload.so" | grep NEEDED | grep -v 'libc\.so' || true)"
}

# mtls/core and smkex/core touch no socket, clock, thread, file or libssl; mtls/net, smkex/net and provider/ no libssl.
# (snprintf and inet_pton, which only turn text into bytes, are fine.)
lint_pure_rooms() {
    report "$(
        grep -nE '#include +[<"](sys/(socket|time|select|epoll|stat|uio|un)|netinet/|net/|linux/|netdb|time|poll|pthread|threads|fcntl|unistd|signal|openssl/(ssl|bio)|ares|\.\./(net|ossl)/)' \
            mtls/core/*.[ch] smkex/core/*.[ch]
        grep -nE '#include +[<"](openssl/ssl|(\.\./)+(mtls/)?ossl/)' mtls/net/*.[ch] provider/*.[ch] smkex/core/*.[ch] smkex/net/*.[ch]
    )"
}

# memcmp never compares what is secret or proves something (CRYPTO_memcmp does); each use is listed.
# A comparison that only looks like one says "not secret" beside it.
lint_comparisons() {
    local all
    all=$(c_files | grep -E '^(mtls|smkex|provider|apps)/' | xargs grep -nE '(^|[^_A-Za-z])memcmp *\(' || true)
    printf '%s\n\n' "$all"
    report "$(grep -E 'memcmp.*(tag|secret|proof|nonce|digest|mac\b|key\b|k_[cs])' <<<"$all" | grep -v 'not secret')"
    report "$(c_files | grep -E '^(mtls|smkex|provider)/' | xargs grep -nE '\b(fopen|FILE \*)' | grep -E '^(mtls|smkex)/core' || true)"
}

# A rule that code or tests cite is in the specification.
lint_rules_exist() {
    report "$(comm -23 \
        <(git ls-files mtls smkex provider apps test | grep -E '\.(c|h|py)$' | xargs grep -ohE '\[[A-Z][A-Z0-9]*-[0-9]+\]' |
            sort -u) \
        <(grep -ohE '\[[A-Z][A-Z0-9]*-[0-9]+\]' doc/protocol.md doc/smkex.md | sort -u))"
}

lint_file_lengths() {
    report "$(c_files | xargs wc -l |
        awk '$2 != "total" && $1 > ($2 ~ /^test\// ? 800 : 650) {print $2 ": " $1 " lines"}')"
}

# No notes to oneself, no path of one machine.
lint_left_overs() {
    report "$(git ls-files | grep -v '^scripts/lib/lint\.sh$' |
        xargs grep -nIE '\b(TODO|FIXME|XXX)\b|(^|[^A-Za-z.])/(work|root)/' || true)"
}

lint_headers_in_cxx() {
    local header
    for header in include/mtls/*.h; do
        clang++ -std=c++11 -Wall -Werror -fsyntax-only -Iinclude -x c++ "$header" -Wno-pragma-once-outside-header
    done
}

lint_shell() {
    local scripts
    mapfile -t scripts < <(git ls-files scripts .ci | xargs grep -lE '^#!.*bash|shellcheck shell=bash')
    shellcheck -x "${scripts[@]}"
}

lint_manual_pages() {
    local pages
    mapfile -t pages < <(git ls-files man | grep -E '\.[1-8]$' || true)
    if [ ${#pages[@]} -gt 0 ]; then
        report "$(mandoc -Tlint -Wwarning "${pages[@]}" 2>&1 || true)"
    fi
}

# Every configuration word can stand in openssl.cnf, too, and is in the documents.
lint_config_words() {
    local word
    report "$(sed -n '/^static const struct word words/,/^};/s/^ *{"\([a-z0-9-]*\)",.*/\1/p' mtls/core/config.c |
        while read -r word; do
            grep -q "[{]\"$word\"," provider/section.c || echo "$word: not in provider/section.c"
            sed -n '/^\.Sh CONFIGURATION/,/^\.Sh FILES/p' man/provider-mtls.7 | grep -qE "^\.Cm .*\b$word( |\$)" ||
                echo "$word: not in provider-mtls(7)"
            grep -qE "^\.It Ic $word Ns = " man/mtls.conf.5 || echo "$word: not in mtls.conf(5)"
            grep -q "^| .$word=" doc/architecture.md || echo "$word: not in doc/architecture.md"
        done)"
}

# The weakened builds of test/lab/mutants.py still fit the sources.
lint_mutations() { "$PYTHON" -B test/lab/mutate.py --fits; }

# The page is what its results give, and its pictures are there.
lint_evaluation() { "$PYTHON" -B test/bench/page.py --check; }

# The tree is as .clang-format says; other versions than Debian 12's draw some lines otherwise, so they are not asked.
lint_format() {
    clang-format --version | grep -q 'version 14\.' || return 0
    report "$(c_files | xargs clang-format --dry-run 2>&1 | grep -E 'warning: code should be' | head -n 20 || true)"
}
