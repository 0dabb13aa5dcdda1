#!/bin/bash
# --json prints valid JSON whatever the ids are, and what it says is right.
# shellcheck source=tests/lib/server.sh
. "$(dirname "$0")/../lib/server.sh"

# valid WHAT: the last stdout is JSON, in UTF-8.
valid() {
    python3 -m json.tool "$TEST_TMP/stdout" >/dev/null || fail "$1 is no JSON: $(cat "$TEST_TMP/stdout")"
}

# holds WHAT EXPRESSION: of the last stdout, as the Python value j.
holds() {
    python3 - "$TEST_TMP/stdout" "$2" <<'END' || fail "$1: not true: $2; of: $(cat "$TEST_TMP/stdout")"
import base64, datetime, json, sys
j = json.load(open(sys.argv[1], encoding="utf-8"))
sys.exit(0 if eval(sys.argv[2]) else 1)
END
}

json() {
    check_exit 0 docdb create-db empty odd
    check_exit 0 docdb ls --json empty
    valid "ls of an empty database"
    holds "ls of an empty database" "j == []"
    printf 'abc' | docdb put odd plain || fail "put"
    printf 'x' | docdb put odd $'"\\\n\t\x01\x7fü日😀' || fail "put"
    printf 'x' | docdb put odd $'bad\xff\xfe' || fail "put"
    check_exit 0 docdb ls --json odd
    valid "ls"
    holds "ls" "[e['id'] for e in j] == ['\"\\\\\\n\\t\\x01\\x7fü日😀', 'bad\\ufffd\\ufffd', 'plain']"
    holds "ls" "base64.b64decode(j[1]['id_base64']) == b'bad\\xff\\xfe' and 'id_base64' not in j[0] and 'id_base64' not in j[2]"
    holds "ls" "j[2]['bytes'] == 3 and j[2]['version'] > 0 and j[2]['mtime'] == j[2]['commit_time']"
    holds "ls" "abs((datetime.datetime.strptime(j[2]['mtime'][:19], '%Y-%m-%dT%H:%M:%S') - datetime.datetime.utcnow()).total_seconds()) < 3600"
    local version
    version=$(docdb put -v odd plain <<<"longer") || fail "put"
    check_exit 0 docdb stat --json odd plain
    valid "stat"
    holds "stat" "len(j) == 1 and j[0]['id'] == 'plain' and j[0]['bytes'] == 7 and j[0]['version'] == $version"
    check_exit 3 docdb stat --json odd missing plain
    valid "stat of one that is missing and one that is not"
    holds "stat" "[e['id'] for e in j] == ['plain']"
    check_exit 3 docdb stat --json odd missing
    valid "stat of one that is missing"
    check_exit 0 docdb dbs --json
    valid "dbs"
    holds "dbs" "[(e['name'], e['documents'], e['document_bytes']) for e in j] == [('empty', 0, 0), ('odd', 3, 9)]"
    check_exit 0 docdb stats --json
    valid "stats"
    holds "stats" "j['databases'] == 2 and j['documents'] == 3 and j['commit_seq'] >= $version and j['read_only_reason'] == ''"
    # Base64 of every length, by another decoder than ours.
    local id
    for id in $'\xf1' $'\xf1\xf2' $'\xf1\xf2\xf3' $'\xf1\xf2\xf3\xf4' $'\xfb\xff\xbf'; do
        docdb put odd "$id" </dev/null || fail "put"
    done
    check_exit 0 docdb ls odd --json --after $'\xf0'
    holds "ls" "[base64.b64decode(e['id_base64'], validate=True) for e in j] == [b'\\xf1', b'\\xf1\\xf2', b'\\xf1\\xf2\\xf3', b'\\xf1\\xf2\\xf3\\xf4', b'\\xfb\\xff\\xbf']"
}

both_ways json
