#!/usr/bin/env bash
# The drivers that the tests work with, fetched from their registries once and kept in MILLSTREAM_CLIENTS, by default
# ~/.cache/millstream/clients.
#
#   drivers.sh python     psycopg and asyncpg; prints what PYTHONPATH must be
#   drivers.sh node       node-postgres; prints what NODE_PATH must be
#   drivers.sh java       pgjdbc; prints the class path
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${MILLSTREAM_CLIENTS:-$HOME/.cache/millstream/clients}
language=${1:?python, node or java}
target=$cache/$language

# Fetches with the command given, unless this very list was fetched before. Several test runs at a time fetch it once.
fetch() {
  local list=$1 of=$2
  shift 2
  mkdir -p "$cache"
  exec 9>"$target.lock"
  flock 9
  local wanted
  wanted="$of $(cksum < "$list")"
  if [ "$(cat "$target/.of" 2>/dev/null)" != "$wanted" ]; then
    echo "fetching the drivers for $language into $target" >&2
    rm -rf "$target"
    mkdir -p "$target"
    "$@" >&2
    echo "$wanted" > "$target/.of"
  fi
  exec 9>&-
}

case $language in
  python)
    # Their native parts are for one version of Python.
    list=$here/python/requirements.txt
    fetch "$list" "$(python3 --version)" \
      python3 -m pip install --quiet --disable-pip-version-check --target "$target" --requirement "$list"
    echo "$target"
    ;;
  node)
    list=$here/node/package.json
    install() { cp "$list" "$target" && npm install --prefix "$target" --silent --no-audit --no-fund --ignore-scripts; }
    fetch "$list" "" install
    echo "$target/node_modules"
    ;;
  java)
    list=$here/java/pom.xml
    fetch "$list" "" mvn --quiet --batch-mode -f "$list" dependency:copy-dependencies -DoutputDirectory="$target"
    echo "$target/*"
    ;;
  *)
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
