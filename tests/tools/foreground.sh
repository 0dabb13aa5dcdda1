#!/bin/bash
# Runs a command as a foreground job of its own, so that Ctrl-C goes to it alone and not to the make that called us: then it can
# end in its own time and with its own exit code. Without a terminal there is no Ctrl-C, and the command takes our place.
[ -t 0 ] || exec "$@"
set -m
"$@"
