#!/usr/bin/env bash
# Runs a command where there is a PostgreSQL PG: here, if this machine or its apt has that server; else in a small Debian
# of the release that has it, with pglogical, which is made once and kept.
#
#   PG=18 [PG_CONFIG=…] [PUBLISHER=17] REPLWARDEN_CACHE=… scripts/root.sh COMMAND…
#
#   PUBLISHER          a version whose server the command can start as well, wherever that one is; the command learns
#                      from PUBLISHER_BIN where its programs are, and from PUBLISHER_ROOT in which Debian
#   REPLWARDEN_MIRROR  the Debian mirror, if it is not to be that of this machine's apt
#
# The command sees this tree, Rust and the temporary directory at their own places. They are mounted in a mount namespace
# that ends with the command: nothing stays mounted, and nobody can delete through a mount that was forgotten.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly pg=${PG:?"PG is not set; make sets it"}
readonly cache=${REPLWARDEN_CACHE:?"REPLWARDEN_CACHE is not set; make sets it"}
readonly tree=$PWD
readonly cargo=${CARGO_HOME:-$HOME/.cargo} rustup=${RUSTUP_HOME:-$HOME/.rustup}

# Which release has which version.
declare -rA releases=([15]=bookworm [17]=trixie [18]=forky)

die() {
    printf 'root: %s\n' "$@" >&2
    exit 1
}

# --- Where ------------------------------------------------------------------------------------

apt_has() {
    [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) =~ Candidate:\ [^\(] ]]
}

# $1: version. Whether this machine has or can get its server; one that is new has no package lists yet.
is_here() {
    [[ -x /usr/lib/postgresql/$1/bin/postgres ]] && return
    command -v apt-get >/dev/null || return
    apt_has "postgresql-$1" && return
    ((EUID == 0)) && apt-get -qq update >/dev/null 2>&1 && apt_has "postgresql-$1"
}

# $1: version. Prints the directory of the Debian that has it, nothing if this machine does or no release is known.
root_of() {
    ! is_here "$1" && [[ ${releases[$1]:-} ]] || return 0
    printf '%s\n' "$cache/${releases[$1]}"
}

# --- Making it --------------------------------------------------------------------------------

# From where this machine's own packages come.
mirror() {
    local found=${REPLWARDEN_MIRROR:-}
    [[ $found ]] || found=$(
        # shellcheck disable=SC2016 # these are apt's variables
        apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' |
            sed -n '/^Debian Debian /{ s///p; q }'
    )
    [[ $found ]] || die "this machine's apt knows no mirror of Debian. Set REPLWARDEN_MIRROR to the address of one."
    printf '%s\n' "$found"
}

# $1: its directory. It gets its name when it is whole.
make_root() {
    local root=$1 release=${1##*/} draft=$1.draft address script=()
    address=$(mirror)
    # Releases that came after this machine's own are made as all others.
    [[ -e /usr/share/debootstrap/scripts/$release ]] || script=(/usr/share/debootstrap/scripts/sid)
    echo "root: making a Debian $release in $root, for its PostgreSQL"
    rm -rf --one-file-system "$draft"
    # It leaves /proc mounted when it is interrupted, so that it gets a namespace too.
    unshare --mount debootstrap --variant=minbase --include=make "$release" "$draft" "$address" "${script[@]}" >"$draft.log" ||
        die "debootstrap failed; its last words in $draft.log:" "$(tail -n 3 "$draft.log")"
    # By which ways and proxies this machine reaches its mirror.
    apt-config dump | grep -iE '^Acquire::https?::' >"$draft/etc/apt/apt.conf.d/50-of-the-machine" || true
    mv "$draft" "$root"
    rm -f "$draft.log"
}

# $1: its directory
prepare() {
    ((EUID == 0)) || die "neither this machine nor its apt has PostgreSQL ${2}." \
        "A Debian that has it can be made in $1, which root has to do: it mounts and changes the root directory." \
        "Or add the packages of the PostgreSQL project (PGDG) to apt."
    unshare --mount true 2>/dev/null || die "mounting is not allowed here (CAP_SYS_ADMIN), and PostgreSQL $2 is not to be had otherwise."
    scripts/setup.sh root
    mkdir -p "$cache"
    local lock
    exec {lock}>"$1.lock"
    flock "$lock"
    [[ -d $1 ]] || make_root "$1"
    # An installation in it may have been interrupted.
    chroot "$1" dpkg --configure -a </dev/null
    exec {lock}>&-
}

# --- Going there ------------------------------------------------------------------------------

# $1: directory of a Debian; others: what it shall see of this machine, at its own place.
mount_into() {
    local root=$1 path
    shift
    for path in "$@"; do
        [[ -e $path ]] || continue
        mkdir -p "$root$path"
        mount --rbind "$path" "$root$path"
    done
    # For the network.
    for path in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
        [[ -e $path ]] || continue
        mkdir -p "$root${path%/*}"
        cmp -s "$path" "$root$path" || cp --remove-destination "$path" "$root$path"
    done
}

# In the namespace. $1, $2: directories of the version's Debian and the publisher's, empty for this machine; others: the
# command.
go() {
    local root=$1 publisher_root=$2 all=(/proc /dev /tmp "${TMPDIR:-/tmp}") old=$cache/postgresql-12 variables=()
    shift 2
    if [[ ${PUBLISHER:-} ]]; then
        [[ -z $publisher_root ]] || mount_into "$publisher_root" "${all[@]}"
        if [[ $root ]]; then
            mount --rbind "${publisher_root:-/}" "$root/mnt"
            publisher_root=/mnt
        fi
        variables=("PUBLISHER_BIN=/usr/lib/postgresql/$PUBLISHER/bin" "PUBLISHER_ROOT=$publisher_root")
    fi
    [[ $root ]] || exec env "${variables[@]}" "$@"
    mount_into "$root" "${all[@]}" "$tree" "$cargo" "$rustup" "$old"
    # What is built there needs its C library; and tools that it builds must not come before those of this machine.
    exec chroot "$root" env --chdir="$tree" "${variables[@]}" \
        CARGO_HOME="$cargo" RUSTUP_HOME="$rustup" CARGO_INSTALL_ROOT=/usr/local \
        CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$tree/target}/${root##*/}" \
        PATH="/usr/local/sbin:/usr/local/bin:$cargo/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$@"
}

if [[ ${1:-} == --in-namespace ]]; then
    shift
    go "$@"
fi

root=''
# A server of one's own is where it is.
[[ ${PG_CONFIG:-} && $PG_CONFIG != "/usr/lib/postgresql/$pg/bin/pg_config" ]] || root=$(root_of "$pg")
[[ -z $root ]] || prepare "$root" "$pg"
publisher_root=''
if [[ ${PUBLISHER:-} ]]; then
    publisher_root=$(root_of "$PUBLISHER")
    [[ -z $publisher_root ]] || prepare "$publisher_root" "$PUBLISHER"
    env -u PG_CONFIG -u PUBLISHER PG="$PUBLISHER" scripts/root.sh scripts/setup.sh publisher
fi
[[ $root || $publisher_root ]] || go '' '' "$@"
[[ -z $root ]] || echo "root: PostgreSQL $pg is in the Debian of $root"
exec unshare --mount scripts/root.sh --in-namespace "$root" "$publisher_root" "$@"
