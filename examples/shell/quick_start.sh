#!/bin/sh
# A tour of the commands. With a server: DOCDB_SOCKET=/tmp/docdb.sock examples/shell/quick_start.sh
# Without one: DOCDB_DATA_DIR=./data examples/shell/quick_start.sh
# The program is ./docdb, or what DOCDB names.
set -eu
docdb=${DOCDB:-./docdb}

"$docdb" create-db people                                  # a database
echo '{"age": 41}' | "$docdb" create people alice          # a new document, from stdin or a file
echo '{"age": 42}' | "$docdb" update people alice          # fails where there is none
echo '{"age": 17}' | "$docdb" put people bob               # either
"$docdb" read people alice
"$docdb" ls -l people

# All of these or none, as one commit; it prints its number.
"$docdb" txn people <<'END'
# alice has her birthday, bob becomes robert
put-text alice "{\"age\": 43}\n"
rename bob robert noreplace
END
"$docdb" read people alice robert

# Only if nobody changed it since it was read.
version=$("$docdb" stat people robert | awk '$1 == "version" { print $2 }')
echo '{"age": 18}' | "$docdb" put --if-version "$version" people robert

"$docdb" delete people alice robert
"$docdb" drop-db --if-empty people
