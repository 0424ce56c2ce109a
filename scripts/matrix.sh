#!/usr/bin/env bash
# Runs the tests on the versions that there are for real, and from one version to another.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/parts.sh

# A publisher of 12 is in each of them.
for version in 15 17 18; do
    part "PostgreSQL $version" make test PG="$version"
done
part "PostgreSQL 17 to 18" make versions PUBLISHER=17 PG=18
part "PostgreSQL 18 to 15" make versions PUBLISHER=18 PG=15
finish
