#!/bin/sh
# The mount: databases are directories, documents are files, and each file write is one durable transaction.
# Start `docdb serve --data-dir ./data --socket /tmp/docdb.sock --mount ./mnt`, then: examples/shell/mount.sh ./mnt
set -eu
cd "$1"

mkdir notes                          # a database
echo 'milk, bread' > notes/shopping  # durable and visible to all when the shell has closed it
cat notes/shopping
mv notes/shopping notes/done         # one transaction
grep -l milk notes/*
rm notes/done
rmdir notes
