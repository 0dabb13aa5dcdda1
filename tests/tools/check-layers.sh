#!/bin/sh
# Dependencies point one way: front-ends (server, cli, fuse) -> docdb.h -> api -> engine and client -> base.
# protocol is what server and client share, and knows base alone.
# Prints every #include that goes against it, and fails if there is one.
set -u
bad=0

# check ROOM FORBIDDEN-PATTERN
check() {
    if grep -nE "#include \"($2)/" "$1"/*.c "$1"/*.h 2>/dev/null; then
        echo "  ^ $1 must not include these" >&2
        bad=1
    fi
}

check src/base 'api|protocol|engine|server|client|cli|fuse'
check src/protocol 'api|engine|server|client|cli|fuse'
check src/engine 'api|protocol|server|client|cli|fuse'
check src/client 'api|engine|server|cli|fuse'
check src/api 'protocol|server|cli|fuse'
check src/server 'api|engine|client|cli|fuse'
check src/cli 'api|protocol|engine|client'
check fuse 'api|protocol|engine|server|client|cli'
exit $bad
