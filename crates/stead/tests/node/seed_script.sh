# The verification steps of the specification. Lines of its code blocks are as they stand there, but for two things:
# `./state-manager` is told to `run`, in the background, and <PID> is filled in. What follows a line checks it.
set -eu
ip link set lo up

# curl as it is, remembering the status code and the body.
curl() {
  code=$(command curl --silent --show-error --output body --write-out '%{http_code}' "$@")
  cat body
  echo
}
is() {
  [ "$code" = "$1" ] || { echo "expected $1, got $code: $(cat body)" >&2; exit 1; }
}
has() {
  grep -qF "$1" body || { echo "expected $1 in: $(cat body)" >&2; exit 1; }
}
# Asks for the status until it has this.
until_status() {
  for _ in $(seq 500); do
    command curl --silent --output body http://localhost:8080/ && grep -qE "$1" body && return
    sleep 0.02
  done
  echo "never: $1: $(cat body)" >&2
  exit 1
}
stop() {
  kill "$node"
  wait "$node"
}
trap 'kill "$node" 2>/dev/null; wait' EXIT

# Basic Functionality, 1. Start server without configuration
./state-manager run & node=$!
until_status '"state":"unconfigured"'
curl http://localhost:8080/
is 200
has '"configured":false'
curl http://localhost:8080/config
is 404

# Error Handling, 1. Invalid configuration
curl -X POST http://localhost:8080/config -d '{"invalid":true}'
is 400
has '"problems"'

# Basic Functionality, 2. Apply configuration
curl -X POST http://localhost:8080/config -d @config.json
is 200
curl http://localhost:8080/config
is 200
has '"name":"seed"'

# Basic Functionality, 3. Verify process management
# Start supervised process
curl http://localhost:8080/
is 200
PID=$(grep -oE '"pid":[0-9]+' body | cut -d: -f2)
# Kill process
kill $PID
# Verify restart
until_status '"restarts":1[,}]'
until_status '"state":"running","pid":[0-9]'
curl http://localhost:8080/
is 200
[ "$(grep -oE '"pid":[0-9]+' body | cut -d: -f2)" != "$PID" ]

# State Management, 1. Create checkpoint
curl -X POST http://localhost:8080/checkpoint -d '{"id":"test1"}'
is 200
has '"id":"test1"'

# 2. Verify checkpoint
ls -l tmp/checkpoints/test1
[ -s tmp/checkpoints/test1/checkpoint.json ]

# 3. Restore checkpoint
curl -X POST http://localhost:8080/restore -d '{"id":"test1"}'
is 200

# Error Handling, 2. Invalid checkpoint
curl -X POST http://localhost:8080/restore -d '{"id":"nonexistent"}'
is 404

# Database Creation
# Verify database exists
ls -l data/database.sqlite
# Verify replication
ls -l data/database.sqlite-litestream

# Database Operations
# Verify database access
sqlite3 data/database.sqlite "SELECT 1;"
# Verify replication status
curl http://localhost:8080/
is 200
has '"mode":"wal"'

# Verify persistence across restarts
stop
./state-manager run & node=$!
until_status '"state":"running","pid":[0-9]'
curl http://localhost:8080/config
is 200

# Error Handling, 3. Process failure
# Start process that will fail
curl -X DELETE http://localhost:8080/config
is 200
curl -X POST http://localhost:8080/config -d @failing.json
is 200
# Verify restart behavior
until_status '"restarts":[2-9]'
stop
trap - EXIT
echo "all of it"
