#!/usr/bin/env bash
# Runs a command beside a throwaway PostgreSQL, whose URL it finds in KAMERTON_TEST_POSTGRES:
#   scripts/ci/with_postgres.sh .venv/bin/python -m pytest tests/contract/test_stores.py
# The server listens on this machine alone and is gone, with its data, when the command ends.
set -euo pipefail

# Debian keeps the server's programs apart from PATH; the newest version wins.
programs=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1)
PATH="${programs:+$programs:}$PATH"
command -v initdb >/dev/null || { echo "there is no PostgreSQL: apt-get install postgresql" >&2; exit 1; }

# PostgreSQL refuses to run as root.
as=()
if [ "$(id -u)" = 0 ]; then
  as=(runuser -u "$(id -un postgres 2>/dev/null || echo nobody)" -- env "PATH=$PATH")
fi
folder=$(cd / && "${as[@]}" mktemp -d "${TMPDIR:-/tmp}/kamerton-postgres.XXXXXX")
postgres() { (cd / && "${as[@]}" "$@"); }
finish() {
  postgres pg_ctl --pgdata="$folder/data" --mode=immediate stop >/dev/null 2>&1 || true
  rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

postgres initdb --pgdata="$folder/data" --username=kamerton --auth=trust --encoding=UTF8 \
  --locale=C --no-sync >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
# Another program may take the free port meanwhile: then the next one is tried.
for _ in 1 2 3; do
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  options="-p $port -h 127.0.0.1 -k '$folder' -c fsync=off"
  if postgres pg_ctl --pgdata="$folder/data" --log="$folder/data/server.log" --wait --options="$options" start >/dev/null; then
    started=yes
    break
  fi
done
[ -n "${started:-}" ] || { cat "$folder/data/server.log" >&2; exit 1; }

export KAMERTON_TEST_POSTGRES="postgresql+psycopg://kamerton@127.0.0.1:$port/postgres"
"$@"
