#include "sweep/formpack.h"
#include "core/json.h"
#include "sweep/keys.h"
#include "sweep/store.h"
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A record is its header, the divisor that folds into the producer where there is one (`cols`
 * floats; aligned, as it stands first), and the packed bytes. */

/* What every build reads of a record, whatever it makes of the rest: how long it is and whose it
 * is. In this machine's byte order. */
struct prefix {
    char magic[8], build[24];
    int64_t header_bytes, bytes; /* of this header, prefix included; of what follows it */
    uint64_t hash;               /* of all before it */
};
struct record { /* as it lies in the file, written and read by one build */
    struct prefix prefix;
    char key[PTQ_KEY_CHARS];
    int32_t n_notes;
    double prepare_s, quantize_s;
    struct ptq_form_head head;
    struct ptq_note_value notes[PTQ_MAX_NOTES];
    uint64_t payload_hash, header_hash; /* header_hash is over all before it: keep last */
};
static const char magic[8] = {'P', 'T', 'Q', 'F', 'O', 'R', 'M', '2'};

struct place {
    int file;
    int64_t at, bytes; /* of the record */
};
enum { MAX_FILES = 1024 };
struct ptq_pack {
    pthread_mutex_t lock;
    char path[PATH_MAX]; /* own file: fd[0] */
    int fd[MAX_FILES], n_files;
    int64_t size;   /* of the own file */
    bool any_build; /* other builds' records count */
    json_t *by_key; /* key -> index in places */
    struct place *places;
    int64_t n_places, room;
};

static uint64_t hash_header(const struct record *r)
{
    return ptq_hash64(r, offsetof(struct record, header_hash));
}

static int add_place(struct ptq_pack *p, const char *key, struct place place, struct ptq_status *st)
{
    if (p->n_places == p->room) {
        int64_t room = 2 * p->room + 64;
        struct place *larger = realloc(p->places, (size_t)room * sizeof *larger);
        if (!larger)
            return ptq_status_nomem(st, "the index of stored forms", (size_t)room * sizeof *larger);
        p->places = larger;
        p->room = room;
    }
    p->places[p->n_places] = place;
    if (json_object_set_new(p->by_key, key, json_integer(p->n_places++)))
        return ptq_status_nomem(st, "the index of stored forms", 0);
    return PTQ_OK;
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static bool read_at(int fd, void *to, size_t bytes, int64_t at)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(fd, (char *)to + done, bytes - done, at + (int64_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* A record of any build that fits in `room` bytes. */
static bool whole_prefix(const struct prefix *x, int64_t room)
{
    return !memcmp(x->magic, magic, sizeof magic) &&
           x->hash == ptq_hash64(x, offsetof(struct prefix, hash)) &&
           x->header_bytes >= (int64_t)sizeof *x && x->header_bytes <= room && x->bytes >= 0 &&
           x->bytes <= room - x->header_bytes;
}

/* One of a build that counts, which lies in `bytes` bytes. Of another build a header as long as
 * ours is taken for one of our kind: what it says is checked as any bytes are. */
static bool whole_record(const struct ptq_pack *p, const struct record *r, int64_t bytes)
{
    return whole_prefix(&r->prefix, bytes) && r->prefix.header_bytes == (int64_t)sizeof *r &&
           (p->any_build ||
            !strncmp(r->prefix.build, ptq_harness_hash(), sizeof r->prefix.build)) &&
           r->header_hash == hash_header(r) && r->key[PTQ_KEY_CHARS - 1] == 0 && r->n_notes >= 0 &&
           r->n_notes <= PTQ_MAX_NOTES;
}

static bool prefix_at(int fd, int64_t at, int64_t size, struct prefix *x)
{
    return at + (int64_t)sizeof *x <= size && read_at(fd, x, sizeof *x, at) &&
           whole_prefix(x, size - at);
}

/* Where the next record begins behind damage, or `size` without one. */
static int64_t next_record(int fd, int64_t at, int64_t size)
{
    char buffer[65536];
    struct prefix x;
    for (const int64_t overlap = sizeof magic - 1; at + (int64_t)sizeof x <= size;) {
        int64_t n = size - at < (int64_t)sizeof buffer ? size - at : (int64_t)sizeof buffer;
        if (!read_at(fd, buffer, (size_t)n, at))
            return size;
        const char *end = buffer + n;
        for (const char *p = buffer; (p = memmem(p, (size_t)(end - p), magic, sizeof magic)); p++)
            if (prefix_at(fd, at + (p - buffer), size, &x))
                return at + (p - buffer);
        at += n > overlap ? n - overlap : n;
    }
    return size;
}

/* Indexes the records of this build, over damage and those of other builds; *end is where the last
 * whole record of any build ends. */
static int scan(struct ptq_pack *p, int file, int64_t *end, struct ptq_status *st)
{
    struct stat info;
    struct prefix x;
    struct record r;
    int code = PTQ_OK, fd = p->fd[file];
    *end = 0;
    if (fstat(fd, &info))
        return PTQ_OK;
    for (int64_t at = 0; code >= 0 && at < info.st_size;) {
        if (!prefix_at(fd, at, info.st_size, &x)) {
            at = next_record(fd, at + 1, info.st_size);
            continue;
        }
        struct place place = {file, at, x.header_bytes + x.bytes};
        if (x.header_bytes == (int64_t)sizeof r && read_at(fd, &r, sizeof r, at) &&
            whole_record(p, &r, place.bytes))
            code = add_place(p, r.key, place, st);
        at += place.bytes;
        *end = at;
    }
    return code;
}

static int is_pack(const struct dirent *e)
{
    return fnmatch("forms*.pack", e->d_name, 0) == 0;
}

static int scan_others(struct ptq_pack *p, const char *run_dir, struct ptq_status *st)
{
    struct dirent **names = NULL;
    int code = PTQ_OK, n = scandir(run_dir, &names, is_pack, alphasort);
    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        int64_t end;
        int fd = -1;
        bool fits =
            snprintf(path, sizeof path, "%s/%s", run_dir, names[i]->d_name) < (int)sizeof path;
        if (code >= 0 && fits && strcmp(path, p->path) != 0 && p->n_files < MAX_FILES &&
            (fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
            p->fd[p->n_files] = fd;
            code = scan(p, p->n_files++, &end, st);
        }
        free(names[i]);
    }
    free(names);
    return code;
}

static int open_own(struct ptq_pack *p, const char *run_dir, int shard, int n_shards,
                    struct ptq_status *st)
{
    int code = ptq_run_file(p->path, sizeof p->path, run_dir, "forms", "pack", shard, n_shards, st);
    if (code >= 0)
        code = ptq_open_locked(p->path, &p->fd[0], st);
    if (code < 0)
        return code;
    p->n_files = 1;
    code = scan(p, 0, &p->size, st);
    if (code >= 0 && ftruncate(p->fd[0], p->size))
        code = ptq_status_set(
            st, PTQ_ERR_IO, "%s: cannot write: %s; choose a folder that can be written ([run] out)",
            p->path, strerror(errno));
    return code;
}

static struct ptq_pack *new_pack(struct ptq_status *st)
{
    struct ptq_pack *p = calloc(1, sizeof *p);
    json_t *by_key = p ? json_object() : NULL;
    if (!by_key) {
        free(p);
        ptq_status_nomem(st, "the index of stored forms", sizeof *p);
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    p->by_key = by_key;
    return p;
}

static int give(struct ptq_pack *p, int code, struct ptq_pack **out)
{
    if (code < 0)
        ptq_pack_close(p);
    else
        *out = p;
    return code < 0 ? code : PTQ_OK;
}

int ptq_pack_open(struct ptq_pack **out, const char *run_dir, int shard, int n_shards,
                  struct ptq_status *st)
{
    *out = NULL;
    struct ptq_pack *p = new_pack(st);
    if (!p)
        return PTQ_ERR_MEMORY;
    int code = open_own(p, run_dir, shard, n_shards, st);
    if (code >= 0)
        code = scan_others(p, run_dir, st);
    return give(p, code, out);
}

static int read_files(struct ptq_pack **out, const char *run_dir, bool any_build,
                      struct ptq_status *st)
{
    *out = NULL;
    struct ptq_pack *p = new_pack(st);
    if (!p)
        return PTQ_ERR_MEMORY;
    p->any_build = any_build;
    return give(p, scan_others(p, run_dir, st), out);
}

int ptq_pack_read(struct ptq_pack **out, const char *run_dir, struct ptq_status *st)
{
    return read_files(out, run_dir, false, st);
}

int ptq_pack_read_any(struct ptq_pack **out, const char *run_dir, struct ptq_status *st)
{
    return read_files(out, run_dir, true, st);
}

void ptq_pack_close(struct ptq_pack *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_files; i++)
        close(p->fd[i]);
    json_decref(p->by_key);
    pthread_mutex_destroy(&p->lock);
    free(p->places);
    free(p);
}

void ptq_pack_remove(const char *run_dir, int shard, int n_shards)
{
    char path[PATH_MAX];
    if (ptq_run_file(path, sizeof path, run_dir, "forms", "pack", shard, n_shards, NULL) >= 0)
        unlink(path);
}

/* ---- records -----------------------------------------------------------------------------------
 */

static int64_t folded_bytes(int64_t n_folded)
{
    return n_folded * (int64_t)sizeof(float);
}

/* Of a record whose payload stands behind it. */
static void fill_header(struct record *r, const char *key, const struct ptq_result *result,
                        int64_t payload_bytes)
{
    memset(r, 0, sizeof *r); /* padding is hashed too */
    memcpy(r->prefix.magic, magic, sizeof magic);
    snprintf(r->prefix.build, sizeof r->prefix.build, "%s", ptq_harness_hash());
    r->prefix.header_bytes = (int64_t)sizeof *r;
    r->prefix.bytes = payload_bytes;
    r->prefix.hash = ptq_hash64(&r->prefix, offsetof(struct prefix, hash));
    snprintf(r->key, sizeof r->key, "%s", key);
    r->n_notes = result->n_notes;
    memcpy(r->notes, result->notes, (size_t)result->n_notes * sizeof *r->notes);
    r->prepare_s = result->prepare_s;
    r->quantize_s = result->quantize_s;
    ptq_quant_head(&result->quant, &r->head);
    r->payload_hash = ptq_hash64(r + 1, (size_t)payload_bytes);
    r->header_hash = hash_header(r);
}

static struct record *make_record(const char *key, const struct ptq_result *result,
                                  struct ptq_arena *arena, struct ptq_status *st)
{
    struct ptq_packed packed;
    if (ptq_quant_pack(&result->quant, arena, &packed, st) < 0)
        return NULL;
    const int64_t folded = folded_bytes(packed.n_folded), payload = folded + packed.bytes;
    struct record *r = ptq_arena_alloc(arena, st, (int64_t)sizeof *r + payload, 1);
    if (!r)
        return NULL;
    if (folded)
        memcpy(r + 1, packed.folded, (size_t)folded);
    memcpy((char *)(r + 1) + folded, packed.at, (size_t)packed.bytes);
    fill_header(r, key, result, payload);
    return r;
}

int ptq_pack_put(struct ptq_pack *p, const char *key, const struct ptq_result *result,
                 struct ptq_status *st)
{
    struct ptq_arena arena;
    int code = PTQ_ERR_MEMORY;
    ptq_arena_init(&arena, 0);
    const struct record *r = make_record(key, result, &arena, st);
    if (r) {
        pthread_mutex_lock(&p->lock);
        struct place place = {0, p->size, (int64_t)sizeof *r + r->prefix.bytes};
        code = ptq_append_whole(p->fd[0], p->path, r, (size_t)place.bytes, &p->size, st);
        if (code >= 0)
            code = add_place(p, key, place, st);
        pthread_mutex_unlock(&p->lock);
    }
    ptq_arena_clear(&arena);
    return code;
}

static bool find(struct ptq_pack *p, const char *key, struct place *place, int *fd)
{
    pthread_mutex_lock(&p->lock);
    const json_t *index = json_object_get(p->by_key, key);
    if (index) {
        *place = p->places[json_integer_value(index)];
        *fd = p->fd[place->file];
    }
    pthread_mutex_unlock(&p->lock);
    return index != NULL;
}

bool ptq_pack_has(struct ptq_pack *p, const char *key)
{
    struct place place;
    int fd;
    return find(p, key, &place, &fd);
}

static void forget(struct ptq_pack *p, const char *key)
{
    pthread_mutex_lock(&p->lock);
    json_object_del(p->by_key, key);
    pthread_mutex_unlock(&p->lock);
}

/* Record and payload into the arena; PTQ_SKIP when absent or broken (then forgotten). */
static int load(struct ptq_pack *p, const char *key, struct ptq_arena *arena, struct record **out,
                struct ptq_status *st)
{
    struct place place;
    int fd;
    if (!find(p, key, &place, &fd))
        return PTQ_SKIP;
    struct record *r = ptq_arena_alloc(arena, st, place.bytes, 1);
    if (!r)
        return PTQ_ERR_MEMORY;
    if (read_at(fd, r, (size_t)place.bytes, place.at) && whole_record(p, r, place.bytes) &&
        (int64_t)sizeof *r + r->prefix.bytes == place.bytes &&
        ptq_hash64(r + 1, (size_t)r->prefix.bytes) == r->payload_hash) {
        *out = r;
        return PTQ_OK;
    }
    forget(p, key);
    return PTQ_SKIP;
}

bool ptq_pack_verify(struct ptq_pack *p, const char *key)
{
    struct ptq_arena arena;
    struct record *r;
    ptq_arena_init(&arena, 0);
    int code = load(p, key, &arena, &r, NULL);
    ptq_arena_clear(&arena);
    return code == PTQ_OK;
}

static int unpack(const struct record *r, struct ptq_result *result, struct ptq_status *st)
{
    const int64_t n_folded = r->head.folds ? r->head.cols : 0;
    if (n_folded < 0 || n_folded > r->prefix.bytes / (int64_t)sizeof(float))
        return PTQ_ERR_USAGE;
    const int64_t folded = folded_bytes(n_folded);
    const struct ptq_packed packed = {.at = (const uint8_t *)(r + 1) + folded,
                                      .bytes = r->prefix.bytes - folded,
                                      .folded = n_folded ? (const float *)(r + 1) : NULL,
                                      .n_folded = n_folded};
    int code = ptq_quant_unpack(&r->head, &packed, &result->arena, &result->quant, st);
    if (code < 0)
        return code;
    /* unpack checked the product */
    int64_t n = result->quant.rows * ptq_quant_kcols(&result->quant);
    result->what = ptq_arena_alloc(&result->arena, st, n, sizeof *result->what);
    if (!result->what)
        return PTQ_ERR_MEMORY;
    code = ptq_quant_dequant(&result->quant, result->what, st);
    if (code < 0)
        return code;
    result->n_notes = r->n_notes;
    memcpy(result->notes, r->notes, (size_t)r->n_notes * sizeof *r->notes);
    result->prepare_s = r->prepare_s;
    result->quantize_s = r->quantize_s;
    return PTQ_OK;
}

int ptq_pack_get(struct ptq_pack *p, const char *key, struct ptq_result *result,
                 struct ptq_status *st)
{
    struct ptq_arena arena;
    struct record *r = NULL;
    memset(result, 0, sizeof *result);
    ptq_arena_init(&result->arena, 0);
    ptq_arena_init(&arena, 0);
    int code = load(p, key, &arena, &r, st);
    if (code == PTQ_OK)
        code = unpack(r, result, st);
    if (code == PTQ_ERR_USAGE ||
        code == PTQ_ERR_NUMERIC) { /* bytes are whole but make no form: as if absent */
        ptq_status_clear(st);
        forget(p, key);
        code = PTQ_SKIP;
    }
    ptq_arena_clear(&arena);
    if (code != PTQ_OK)
        ptq_arena_clear(&result->arena);
    return code;
}
