#!/usr/bin/env bash
# Builds the extension in release mode and copies it into the server of PG_CONFIG.
#
#   PG=15 PG_CONFIG=… PGRX_PG_CONFIG_PATH=… scripts/install.sh
#
# It builds a package directory first and copies from there, instead of `cargo pgrx install`: only
# the copying needs root, files that are already the same are left alone (no sudo password for
# nothing), and `cargo pgrx install --sudo` would overwrite the library in place, under the feet of
# the servers that have it loaded.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly pg=${PG:?"PG is not set; make sets it"}
readonly pg_config=${PG_CONFIG:?"PG_CONFIG is not set; make sets it"}
readonly package=target/package-pg$pg

# install(1) makes a new file instead of writing into the old one.
copy=(install -D -m 644) by=''
if ! [[ -w $("$pg_config" --pkglibdir) && -w $("$pg_config" --sharedir)/extension ]]; then
    copy=(sudo "${copy[@]}") by=", by sudo"
fi

echo "==> building the extension for PostgreSQL $pg"
# Upgrade scripts of an earlier version of the tree must not stay behind.
rm -rf "$package"
# Its standard output only names the files of the package; cargo's progress and errors are on the other.
cargo pgrx package --pg-config "$pg_config" --no-default-features --features "pg$pg" --out-dir "$package" >/dev/null

# The install scripts of earlier releases, where the updates that the tests make begin.
for script in sql/released/replwarden--*.sql; do
    [[ -e $script ]] || continue
    target=$package$("$pg_config" --sharedir)/extension/${script##*/}
    [[ -e $target ]] || install -D -m 644 "$script" "$target"
done

changed=''
while IFS= read -r file; do
    target=${file#"$package"}
    cmp -s "$file" "$target" && continue
    [[ $changed ]] || echo "==> installing it into the server of $pg_config$by"
    changed=yes
    echo "    $target"
    "${copy[@]}" "$file" "$target" </dev/null
done < <(find "$package" -type f | sort)
[[ $changed ]] || echo "==> the server of $pg_config has it already"
