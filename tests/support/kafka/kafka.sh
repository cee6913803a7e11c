#!/usr/bin/env bash
# One node of Apache Kafka (KRaft: broker and controller in one process) on free loopback ports, for the tests.
#
#   kafka.sh start DIR    fetches the jars if need be, formats DIR if it is new, starts, prints host:port
#   kafka.sh stop DIR     stops it cleanly; `start DIR` goes on with its data and its port
#   kafka.sh kill DIR     kill -9
#   kafka.sh topics DIR ARGUMENTS...    the broker's own tool: --create --topic t --partitions 4
#
# Needs Java 17 and Maven (.ci/packages.txt). The jars are kept in MILLSTREAM_KAFKA_LIBS, by default
# ~/.cache/millstream/kafka-libs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
libs=${MILLSTREAM_KAFKA_LIBS:-$HOME/.cache/millstream/kafka-libs}

usage() {
  sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

# The jars of the release that pom.xml names. Several test runs at a time fetch them once.
fetch() {
  mkdir -p "$(dirname "$libs")"
  exec 9>"$libs.lock"
  flock 9
  local wanted
  wanted=$(cksum < "$here/pom.xml")
  if [ "$(cat "$libs/.of" 2>/dev/null)" != "$wanted" ]; then
    echo "fetching Apache Kafka into $libs" >&2
    rm -rf "$libs"
    mvn --quiet --batch-mode -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" >&2
    echo "$wanted" > "$libs/.of"
  fi
  exec 9>&-
}

java_with_jars() {
  exec java -Xmx384m -Dlog4j2.configurationFile="$here/log4j2.yaml" -cp "$libs/*" "$@"
}

# A port that nobody listens on, from below the range that the kernel gives to clients.
free_port() {
  local port
  for _ in $(seq 100); do
    port=$((RANDOM % 10000 + 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  echo "no free port" >&2
  exit 1
}

address() {
  sed -n 's|^advertised.listeners=PLAINTEXT://||p' "$1/server.properties"
}

format() {
  local dir=$1 port controller
  port=$(free_port)
  controller=$(free_port)
  sed -e "s|@PORT@|$port|g" -e "s|@CONTROLLER@|$controller|g" -e "s|@DIR@|$dir|g" \
    "$here/server.properties.template" > "$dir/server.properties"
  if ! (java_with_jars kafka.tools.StorageTool format --cluster-id TWlsbHN0cmVhbVRlc3RzMQ \
    --config "$dir/server.properties") > "$dir/format.log" 2>&1; then
    cat "$dir/format.log" >&2
    rm "$dir/server.properties"
    exit 1
  fi
}

start() {
  local dir=$1 address
  fetch
  [ -e "$dir/server.properties" ] || format "$dir"
  address=$(address "$dir")
  (java_with_jars kafka.Kafka "$dir/server.properties") > "$dir/kafka.log" 2>&1 < /dev/null &
  echo $! > "$dir/pid"
  for _ in $(seq 600); do
    if ! kill -0 "$(cat "$dir/pid")" 2>/dev/null; then
      echo "Kafka ended while it started:" >&2
      tail -n 20 "$dir/kafka.log" >&2
      exit 1
    fi
    if (exec 3<>"/dev/tcp/${address%:*}/${address#*:}") 2>/dev/null; then
      echo "$address"
      return
    fi
    sleep 0.1
  done
  echo "Kafka was not ready after 60 s" >&2
  exit 1
}

# Sends a signal and waits until the process is gone.
end() {
  local dir=$1 signal=$2 pid
  [ -e "$dir/pid" ] || return 0
  pid=$(cat "$dir/pid")
  kill "-$signal" "$pid" 2>/dev/null || true
  for _ in $(seq 600); do
    if ! kill -0 "$pid" 2>/dev/null; then
      rm -f "$dir/pid"
      return
    fi
    sleep 0.1
  done
  echo "process $pid is still there after 60 s" >&2
  exit 1
}

[ $# -ge 2 ] || usage
verb=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
shift 2
case $verb in
  start) start "$dir" ;;
  stop) end "$dir" TERM ;;
  kill) end "$dir" KILL ;;
  topics) java_with_jars org.apache.kafka.tools.TopicCommand --bootstrap-server "$(address "$dir")" "$@" ;;
  *) usage ;;
esac
