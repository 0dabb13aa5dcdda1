/* The quick start: `quick_start` opens ./data itself, `quick_start unix:/tmp/docdb.sock` asks a server. */
#include <docdb.h>
#include <stdio.h>

#define CHECK(call)                                                                                                \
    if ((status = (call)) != DOCDB_OK)                                                                             \
    return fprintf(stderr, "%s: %s\n", #call, docdb_error_text(status)), 1

int main(int argc, char **argv) {
    docdb *runtime;
    docdb_db *people;
    docdb_doc *doc;
    int status;

    CHECK(docdb_open(argc > 1 ? argv[1] : "./data", NULL, &runtime, NULL));
    CHECK(docdb_db_open(runtime, "people", DOCDB_DB_CREATE, &people));
    CHECK(docdb_create(people, "alice", "{\"age\": 41}", 11, NULL));
    CHECK(docdb_update(people, "alice", "{\"age\": 42}", 11, NULL));
    CHECK(docdb_read(people, "alice", &doc));
    printf("%.*s\n", (int)docdb_doc_bytes(doc), (const char *)docdb_doc_data(doc));
    docdb_doc_release(doc);
    CHECK(docdb_delete(people, "alice", NULL));
    docdb_db_close(people);
    CHECK(docdb_close(runtime));
    return 0;
}
