#!/usr/bin/env bash
# Starts the given server with the demo of demo.sql, says how to go on, and stops the server with Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."

server=${1:?the millstream binary}
export PGHOST=127.0.0.1 PGPORT=4566 PGUSER=millstream PGDATABASE=millstream PGCONNECT_TIMEOUT=2

"$server" serve --data-dir ./data --listen "$PGHOST:$PGPORT" &
pid=$!
trap 'kill -TERM $pid 2> /dev/null || true' INT TERM EXIT

until psql --no-psqlrc --quiet --command 'SELECT 1' > /dev/null 2>&1; do
  kill -0 "$pid" 2> /dev/null || { wait "$pid"; exit; }
  sleep 0.2
done
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set VERBOSITY=terse --file docs/demo.sql 2>&1 |
  { grep -v 'already exists, skipping' || true; }

cat <<TEXT

Millstream runs; its data lies under ./data. Connect from another terminal:

  psql -h $PGHOST -p $PGPORT -U $PGUSER $PGDATABASE

and ask, as often as you like:

  SELECT * FROM bids_per_minute ORDER BY window_start DESC LIMIT 5;
  SELECT * FROM categories ORDER BY category;
  SELECT * FROM large_bids ORDER BY price DESC LIMIT 5;
  SELECT * FROM sellers_by_state ORDER BY state;

Ctrl-C stops it; with the next \`make run\` everything goes on where it was.
TEXT
wait "$pid"
