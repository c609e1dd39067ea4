#include "datasets/h5.h"
#include "core/half.h"
#include "core/size.h"
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Debian's serial HDF5 is not thread-safe: this lock is the one static of the harness and is never
 * held across a callback into other modules. */
static pthread_mutex_t h5_lock = PTHREAD_MUTEX_INITIALIZER;

struct ptq_h5 {
    hid_t file, lapl; /* lapl: link access that refuses to leave the file */
    char *path;
    int64_t file_bytes; /* size at opening: no stored array can be larger */
    bool writable;
    bool in_memory;
    bool broken; /* a write failed: closing must not report success */
};

enum { MAX_PATH = 1024, MAX_MEMBERS = 1 << 20, MAX_TEXT = 1 << 20 };
/* Deflate cannot expand by more than 1032; a dataset that claims more than its stored chunks can
 * hold is a bomb or was never written. The absolute limit is above the largest tensor of any model
 * we know (a few GB). */
static const int64_t max_expansion = 1100, max_bytes = INT64_C(64) << 30,
                     max_chunk_bytes = INT64_C(1) << 30;

/* ---- messages ------------------------------------------------------------------------------- */

static herr_t first_desc(unsigned n, const H5E_error2_t *e, void *out)
{
    char *text = out;
    if (n == 0 && e->desc)
        snprintf(text, 160, "%s", e->desc);
    return 0;
}

/* Innermost message of HDF5's error stack; must be called right after the call that failed. */
static void reason(char text[160])
{
    strcpy(text, "no reason given by HDF5");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_desc, text);
}

static int fail_hdf5(struct ptq_h5 *h, struct ptq_status *st, const char *object, const char *doing,
                     enum ptq_code code)
{
    char why[160];
    reason(why);
    if (code == PTQ_ERR_IO && h->writable)
        h->broken = true;
    return ptq_status_set(st, code, "%s: %s: %s failed: %s; %s", h->path, object, doing, why,
                          h->writable ? "is the disk full or the file in use?"
                                      : "the file is damaged: make it again");
}

/* ---- open and close ------------------------------------------------------------------------- */

static herr_t refuse_external(const char *pf, const char *pg, const char *cf, const char *cg,
                              unsigned *flags, hid_t fapl, void *arg)
{
    (void)pf, (void)pg, (void)cf, (void)cg, (void)flags, (void)fapl, (void)arg;
    return -1;
}

/* Called under the lock before anything else. H5dont_atexit: after a failed H5Fclose (disk full)
 * the library's exit handler tries to close the file again and may loop or crash; we close every
 * file ourselves. It fails harmlessly after the first call. */
static void library_quiet(void)
{
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0); /* a file must not make us load filter plugins */
}

static int check_readable(const char *path, struct ptq_status *st, int64_t *bytes)
{
    struct stat s;
    if (stat(path, &s) != 0) {
        enum ptq_code code = errno == ENOENT || errno == ENOTDIR ? PTQ_ERR_USAGE : PTQ_ERR_IO;
        return ptq_status_set(st, code, "%s: cannot open: %s; check the path", path,
                              strerror(errno));
    }
    if (!S_ISREG(s.st_mode))
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: is not a regular file; give an HDF5 file",
                              path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ptq_status_set(st, PTQ_ERR_IO, "%s: cannot open: %s; check the permissions", path,
                              strerror(errno));
    close(fd);
    *bytes = s.st_size;
    return PTQ_OK;
}

static hid_t open_existing(const char *path, bool writable, struct ptq_status *st)
{
    if (H5Fis_hdf5(path) <= 0) {
        ptq_status_set(st, PTQ_ERR_USAGE,
                       "%s: is not an HDF5 file (or its first bytes are damaged); "
                       "datasets/SCHEMA.md says what is expected",
                       path);
        return -1;
    }
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    hid_t f = H5Fopen(path, writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, fapl);
    char why[160];
    if (f < 0)
        reason(why);
    H5Pclose(fapl);
    if (f < 0)
        ptq_status_set(st, writable ? PTQ_ERR_IO : PTQ_ERR_USAGE,
                       "%s: cannot open as HDF5: %s; the file is truncated, damaged or being "
                       "written by another process: make it again or wait",
                       path, why);
    return f;
}

static hid_t create_in_memory(const char *name, struct ptq_status *st)
{
    enum { GROWS_BY = 1 << 20, BACKING_STORE = 0 };
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    hid_t f = H5Pset_fapl_core(fapl, GROWS_BY, BACKING_STORE) < 0
                  ? -1
                  : H5Fcreate(name, H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
    H5Pclose(fapl);
    if (f < 0)
        ptq_status_set(st, PTQ_ERR_MEMORY, "%s: cannot be held in memory", name);
    return f;
}

static hid_t create_new(const char *path, struct ptq_status *st)
{
    /* The plain open gives the system's reason (no such folder, permission, read-only). */
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        ptq_status_set(st, PTQ_ERR_IO, "%s: cannot create: %s; check the folder", path,
                       strerror(errno));
        return -1;
    }
    close(fd);
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG);
    hid_t f = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
    char why[160];
    if (f < 0)
        reason(why);
    H5Pclose(fapl);
    if (f < 0)
        ptq_status_set(st, PTQ_ERR_IO,
                       "%s: cannot create: %s; is the disk full or the file in use?", path, why);
    return f;
}

static hid_t open_file(const struct ptq_h5 *h, bool create, struct ptq_status *st)
{
    if (h->in_memory)
        return create_in_memory(h->path, st);
    return create ? create_new(h->path, st) : open_existing(h->path, h->writable, st);
}

int ptq_h5_open(struct ptq_h5 **out, const char *path, enum ptq_h5_mode mode, struct ptq_status *st)
{
    *out = NULL;
    struct ptq_h5 *h = calloc(1, sizeof *h);
    if (!h || !(h->path = strdup(path))) {
        free(h);
        return ptq_status_nomem(st, "an HDF5 handle", sizeof *h);
    }
    h->writable = mode != PTQ_H5_READ;
    h->in_memory = mode == PTQ_H5_MEMORY;
    struct stat s;
    bool create = mode == PTQ_H5_CREATE || (mode == PTQ_H5_APPEND && stat(path, &s) != 0);
    int rc = PTQ_OK;
    if (create && stat(path, &s) == 0 && !S_ISREG(s.st_mode))
        rc =
            ptq_status_set(st, PTQ_ERR_USAGE, "%s: is not a regular file; give another name", path);
    if (!create && !h->in_memory)
        rc = check_readable(path, st, &h->file_bytes);
    if (rc == PTQ_OK) {
        pthread_mutex_lock(&h5_lock);
        library_quiet();
        h->file = open_file(h, create, st);
        if (h->file >= 0) {
            h->lapl = H5Pcreate(H5P_LINK_ACCESS);
            H5Pset_elink_cb(h->lapl, refuse_external, NULL);
        } else
            rc = st ? st->code : PTQ_ERR_IO;
        pthread_mutex_unlock(&h5_lock);
    }
    if (rc != PTQ_OK) {
        free(h->path);
        free(h);
        return rc;
    }
    *out = h;
    return PTQ_OK;
}

static int sync_file(const char *path, struct ptq_status *st)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0 && close(fd) != 0 && !rc)
        rc = errno;
    return rc ? ptq_status_set(st, PTQ_ERR_IO,
                               "%s: writing to disk failed: %s; the file is incomplete", path,
                               strerror(rc))
              : PTQ_OK;
}

int ptq_h5_close(struct ptq_h5 *h, struct ptq_status *st)
{
    if (!h)
        return PTQ_OK;
    int rc = PTQ_OK;
    pthread_mutex_lock(&h5_lock);
    H5Pclose(h->lapl);
    if (h->writable && H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0)
        rc = fail_hdf5(h, st, "/", "flushing", PTQ_ERR_IO);
    if (H5Fclose(h->file) < 0 && rc == PTQ_OK)
        rc = fail_hdf5(h, st, "/", "closing", PTQ_ERR_IO);
    pthread_mutex_unlock(&h5_lock);
    if (rc == PTQ_OK && h->writable && !h->in_memory)
        rc = h->broken ? ptq_status_set(st, PTQ_ERR_IO,
                                        "%s: is incomplete: an earlier write failed; free some "
                                        "space and make it again",
                                        h->path)
                       : sync_file(h->path, st);
    free(h->path);
    free(h);
    return rc;
}

const char *ptq_h5_path(const struct ptq_h5 *h)
{
    return h->path;
}

/* ---- walking -------------------------------------------------------------------------------- */

enum found { ABSENT, PRESENT, FOREIGN /* reached through a link that leaves the file */ };

/* H5Lexists answers for the last name of a path only, so every prefix is asked in turn. */
static enum found find(struct ptq_h5 *h, const char *object)
{
    char prefix[MAX_PATH];
    size_t n = strlen(object);
    if (n >= sizeof prefix)
        return ABSENT;
    for (size_t i = 1; i <= n; i++) {
        if ((object[i] != '/' && object[i] != '\0') || object[i - 1] == '/')
            continue;
        memcpy(prefix, object, i);
        prefix[i] = '\0';
        if (H5Lexists(h->file, prefix, h->lapl) <= 0)
            return ABSENT;
        H5L_info_t info;
        if (H5Lget_info(h->file, prefix, &info, h->lapl) < 0)
            return ABSENT;
        if (info.type != H5L_TYPE_HARD && info.type != H5L_TYPE_SOFT)
            return FOREIGN;
        if (H5Oexists_by_name(h->file, prefix, h->lapl) <= 0)
            return info.type == H5L_TYPE_SOFT ? FOREIGN : ABSENT;
    }
    return PRESENT;
}

static hid_t open_object(struct ptq_h5 *h, const char *object, struct ptq_status *st)
{
    enum found f = find(h, object);
    if (f == ABSENT) {
        ptq_status_set(st, PTQ_ERR_USAGE,
                       "%s: %s is absent; datasets/SCHEMA.md says what a file must hold", h->path,
                       object);
        return -1;
    }
    if (f == FOREIGN) {
        ptq_status_set(st, PTQ_ERR_USAGE,
                       "%s: %s is a link that dangles or leaves the file; copy the data into the "
                       "file instead",
                       h->path, object);
        return -1;
    }
    hid_t id = H5Oopen(h->file, object, h->lapl);
    if (id < 0)
        fail_hdf5(h, st, object, "opening", PTQ_ERR_USAGE);
    return id;
}

bool ptq_h5_exists(struct ptq_h5 *h, const char *object)
{
    pthread_mutex_lock(&h5_lock);
    bool yes = find(h, object) == PRESENT;
    pthread_mutex_unlock(&h5_lock);
    return yes;
}

struct names {
    struct ptq_arena *arena;
    struct ptq_status *st;
    char **at;
    int64_t n, room;
};

static herr_t add_name(hid_t g, const char *name, const H5L_info_t *info, void *arg)
{
    (void)g, (void)info;
    struct names *l = arg;
    if (l->n == l->room || strlen(name) >= MAX_PATH)
        return -1;
    l->at[l->n] = ptq_arena_strdup(l->arena, l->st, name);
    return l->at[l->n++] ? 0 : -1;
}

/* Name order (strcmp) is the library's own. */
static int list_locked(struct ptq_h5 *h, const char *group, struct names *l)
{
    hid_t g = open_object(h, group, l->st);
    if (g < 0)
        return PTQ_ERR_USAGE;
    int rc = PTQ_OK;
    H5G_info_t info;
    if (H5Iget_type(g) != H5I_GROUP || H5Gget_info(g, &info) < 0)
        rc = ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: %s is not a group", h->path, group);
    else if (info.nlinks > MAX_MEMBERS)
        rc = ptq_status_set(l->st, PTQ_ERR_USAGE, "%s: %s claims %llu members; at most %d are read",
                            h->path, group, (unsigned long long)info.nlinks, MAX_MEMBERS);
    else {
        l->room = (int64_t)info.nlinks;
        l->at = ptq_arena_alloc(l->arena, l->st, l->room, sizeof *l->at);
        if (!l->at)
            rc = PTQ_ERR_MEMORY;
        else if (H5Literate(g, H5_INDEX_NAME, H5_ITER_INC, NULL, add_name, l) < 0)
            rc = ptq_status_set(l->st, PTQ_ERR_USAGE,
                                "%s: %s: the members cannot be listed: the "
                                "file is damaged",
                                h->path, group);
    }
    H5Oclose(g);
    return rc;
}

int ptq_h5_list(struct ptq_h5 *h, const char *group, struct ptq_arena *arena, char ***names,
                int64_t *n, struct ptq_status *st)
{
    struct names l = {.arena = arena, .st = st};
    pthread_mutex_lock(&h5_lock);
    int rc = list_locked(h, group, &l);
    pthread_mutex_unlock(&h5_lock);
    if (rc != PTQ_OK)
        return rc;
    *names = l.at;
    *n = l.n;
    return PTQ_OK;
}

/* ---- types ---------------------------------------------------------------------------------- */

/* HDF5 1.10 names no half type: one is made from float. sign 15, exponent 5 bits from 10 with bias
 * 15, mantissa 10 bits. The fields must shrink before the size may. */
static hid_t half_type(void)
{
    hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    H5Tset_fields(t, 15, 10, 5, 0, 10);
    H5Tset_precision(t, 16);
    H5Tset_size(t, 2);
    H5Tset_ebias(t, 15);
    return t;
}

static bool float_fields(hid_t t, size_t sign, size_t epos, size_t ebits, size_t mbits, size_t bias)
{
    size_t s, e, en, m, mn;
    return H5Tget_fields(t, &s, &e, &en, &m, &mn) >= 0 && s == sign && e == epos && en == ebits &&
           m == 0 && mn == mbits && H5Tget_ebias(t) == bias;
}

static enum ptq_h5_type float_type(hid_t t, size_t size)
{
    if (H5Tget_order(t) != H5T_ORDER_LE && H5Tget_order(t) != H5T_ORDER_BE)
        return PTQ_H5_OTHER;
    if (size == 2 && float_fields(t, 15, 10, 5, 10, 15))
        return PTQ_H5_F16;
    if (size == 4 && float_fields(t, 31, 23, 8, 23, 127))
        return PTQ_H5_F32;
    if (size == 8 && float_fields(t, 63, 52, 11, 52, 1023))
        return PTQ_H5_F64;
    return PTQ_H5_OTHER;
}

static bool plain_integer(hid_t t, size_t size)
{
    return (size == 1 || size == 2 || size == 4 || size == 8) && H5Tget_precision(t) == 8 * size;
}

static enum ptq_h5_type integer_type(hid_t t, size_t size)
{
    bool is_signed = H5Tget_sign(t) == H5T_SGN_2;
    if (!plain_integer(t, size))
        return PTQ_H5_OTHER;
    if (!is_signed)
        return size == 1 ? PTQ_H5_U8 : size == 2 ? PTQ_H5_U16 : PTQ_H5_OTHER;
    return size == 4 ? PTQ_H5_I32 : size == 8 ? PTQ_H5_I64 : PTQ_H5_OTHER;
}

/* ---- attributes ----------------------------------------------------------------------------- */

/* The opened attribute when it holds one element; else -1 with the status set. */
static hid_t open_scalar_attr(struct ptq_h5 *h, hid_t obj, const char *object, const char *name,
                              hid_t *type, struct ptq_status *st)
{
    hid_t a = H5Aopen(obj, name, H5P_DEFAULT);
    if (a < 0) {
        fail_hdf5(h, st, object, "opening an attribute", PTQ_ERR_USAGE);
        return -1;
    }
    hid_t space = H5Aget_space(a);
    hssize_t n = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    if (space >= 0)
        H5Sclose(space);
    *type = n == 1 ? H5Aget_type(a) : -1;
    if (*type < 0) {
        ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s: attribute %s must hold a single value", h->path,
                       object, name);
        H5Aclose(a);
        return -1;
    }
    return a;
}

/* Under the lock: *obj and *attr are open on PTQ_OK. PTQ_SKIP: object or attribute absent. */
static int find_attr(struct ptq_h5 *h, const char *object, const char *name, hid_t *obj,
                     hid_t *attr, hid_t *type, struct ptq_status *st)
{
    if (find(h, object) == ABSENT)
        return PTQ_SKIP;
    *obj = open_object(h, object, st);
    if (*obj < 0)
        return PTQ_ERR_USAGE;
    htri_t there = H5Aexists(*obj, name);
    *attr = there > 0 ? open_scalar_attr(h, *obj, object, name, type, st) : -1;
    if (*attr >= 0)
        return PTQ_OK;
    H5Oclose(*obj);
    return there > 0 ? PTQ_ERR_USAGE : PTQ_SKIP;
}

/* A string as h5py writes them: variable-length, or fixed-length with any padding. */
static int attr_text(hid_t a, hid_t type, struct ptq_arena *arena, char **out,
                     struct ptq_status *st)
{
    if (H5Tis_variable_str(type) > 0) {
        char *s = NULL;
        if (H5Aread(a, type, &s) < 0)
            return PTQ_SKIP;
        size_t n = s ? strnlen(s, MAX_TEXT) : 0;
        int rc = n < MAX_TEXT ? PTQ_OK : PTQ_SKIP;
        if (rc == PTQ_OK && !(*out = ptq_arena_strdup(arena, st, s ? s : "")))
            rc = PTQ_ERR_MEMORY;
        H5free_memory(s);
        return rc;
    }
    size_t n = H5Tget_size(type);
    if (n == 0 || n >= MAX_TEXT)
        return PTQ_SKIP;
    char *s = ptq_arena_alloc(arena, st, (int64_t)n + 1, 1);
    if (!s)
        return PTQ_ERR_MEMORY;
    if (H5Aread(a, type, s) < 0)
        return PTQ_SKIP;
    if (H5Tget_strpad(type) == H5T_STR_SPACEPAD)
        while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\0'))
            s[--n] = '\0';
    *out = s;
    return PTQ_OK;
}

enum want { WANT_TEXT, WANT_F64, WANT_I64 };
struct attr_out {
    enum want want;
    struct ptq_arena *arena;
    char *text;
    double f64;
    int64_t i64;
};

/* PTQ_SKIP: of another type or unreadable. */
static int attr_value(hid_t a, hid_t type, struct attr_out *o, struct ptq_status *st)
{
    H5T_class_t c = H5Tget_class(type);
    size_t size = H5Tget_size(type);
    if (o->want == WANT_TEXT)
        return c == H5T_STRING ? attr_text(a, type, o->arena, &o->text, st) : PTQ_SKIP;
    if (o->want == WANT_F64 && (c == H5T_FLOAT || c == H5T_INTEGER))
        return H5Aread(a, H5T_NATIVE_DOUBLE, &o->f64) < 0 ? PTQ_SKIP : PTQ_OK;
    /* h5py stores a Python bool as an enumeration of int8. */
    if (o->want != WANT_I64 || (c != H5T_INTEGER && c != H5T_ENUM) || size > 8)
        return PTQ_SKIP;
    if (H5Aread(a, H5T_NATIVE_INT64, &o->i64) < 0)
        return PTQ_SKIP;
    bool wide = c == H5T_INTEGER && size == 8 && H5Tget_sign(type) == H5T_SGN_NONE;
    return wide && o->i64 == INT64_MAX ? PTQ_SKIP : PTQ_OK; /* HDF5 clamps */
}

static int get_attr(struct ptq_h5 *h, const char *object, const char *name, struct attr_out *o,
                    struct ptq_status *st)
{
    static const char *const wanted[] = {"text", "a number", "an integer"};
    hid_t obj, a, type;
    pthread_mutex_lock(&h5_lock);
    int rc = find_attr(h, object, name, &obj, &a, &type, st);
    if (rc == PTQ_OK) {
        rc = attr_value(a, type, o, st);
        if (rc == PTQ_SKIP)
            rc = ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s: attribute %s is not %s", h->path,
                                object, name, wanted[o->want]);
        H5Tclose(type);
        H5Aclose(a);
        H5Oclose(obj);
    }
    pthread_mutex_unlock(&h5_lock);
    return rc;
}

int ptq_h5_get_text(struct ptq_h5 *h, const char *object, const char *name, struct ptq_arena *arena,
                    char **value, struct ptq_status *st)
{
    struct attr_out o = {.want = WANT_TEXT, .arena = arena};
    int rc = get_attr(h, object, name, &o, st);
    if (rc == PTQ_OK)
        *value = o.text;
    return rc;
}

int ptq_h5_get_f64(struct ptq_h5 *h, const char *object, const char *name, double *value,
                   struct ptq_status *st)
{
    struct attr_out o = {.want = WANT_F64};
    int rc = get_attr(h, object, name, &o, st);
    if (rc == PTQ_OK)
        *value = o.f64;
    return rc;
}

int ptq_h5_get_i64(struct ptq_h5 *h, const char *object, const char *name, int64_t *value,
                   struct ptq_status *st)
{
    struct attr_out o = {.want = WANT_I64};
    int rc = get_attr(h, object, name, &o, st);
    if (rc == PTQ_OK)
        *value = o.i64;
    return rc;
}

/* Integers and booleans, floats, text; others are left out. PTQ_SKIP: left out. */
static int attr_json(hid_t a, hid_t type, struct ptq_arena *arena, json_t **out,
                     struct ptq_status *st)
{
    H5T_class_t c = H5Tget_class(type);
    struct attr_out o = {.want = c == H5T_STRING  ? WANT_TEXT
                                 : c == H5T_FLOAT ? WANT_F64
                                                  : WANT_I64,
                         .arena = arena};
    int rc = attr_value(a, type, &o, st);
    if (rc != PTQ_OK)
        return rc;
    *out = o.want == WANT_TEXT  ? json_string(o.text)
           : o.want == WANT_F64 ? json_real(o.f64)
                                : json_integer(o.i64);
    return *out ? PTQ_OK : PTQ_SKIP; /* no UTF-8, no finite number */
}

struct attr_list {
    struct ptq_h5 *h;
    const char *object;
    struct ptq_arena *arena;
    json_t *to;
    struct ptq_status *st;
    int rc;
};

static herr_t add_attr(hid_t obj, const char *name, const H5A_info_t *info, void *arg)
{
    struct attr_list *l = arg;
    struct ptq_status ignored = {0};
    json_t *value = NULL;
    hid_t type, a = open_scalar_attr(l->h, obj, l->object, name, &type, &ignored);
    (void)info;
    if (a < 0)
        return 0; /* an array says nothing to us */
    l->rc = attr_json(a, type, l->arena, &value, l->st);
    if (l->rc == PTQ_OK && json_object_set_new(l->to, name, value))
        l->rc = PTQ_SKIP; /* a name that is no UTF-8 */
    H5Tclose(type);
    H5Aclose(a);
    return l->rc < 0 ? -1 : 0;
}

int ptq_h5_attributes(struct ptq_h5 *h, const char *object, json_t **out, struct ptq_status *st)
{
    struct ptq_arena own;
    struct attr_list l = {h, object, &own, json_object(), st, PTQ_OK};
    ptq_arena_init(&own, 0);
    pthread_mutex_lock(&h5_lock);
    hid_t obj = l.to ? open_object(h, object, st) : -1;
    int rc = l.to ? obj < 0 ? PTQ_ERR_USAGE : PTQ_OK : ptq_status_nomem(st, object, 64);
    if (rc == PTQ_OK) {
        H5Aiterate2(obj, H5_INDEX_NAME, H5_ITER_INC, NULL, add_attr, &l);
        rc = l.rc < 0 ? l.rc : PTQ_OK;
        H5Oclose(obj);
    }
    pthread_mutex_unlock(&h5_lock);
    ptq_arena_clear(&own);
    if (rc)
        json_decref(l.to);
    else
        *out = l.to;
    return rc;
}

/* ---- datasets: shape ------------------------------------------------------------------------ */

struct dset {
    hid_t id, type, space;
    size_t size; /* bytes of a stored element */
    H5T_class_t class;
    struct ptq_h5_info info;
    bool no_sign;
};

static void dset_close(struct dset *d)
{
    if (d->space >= 0)
        H5Sclose(d->space);
    if (d->type >= 0)
        H5Tclose(d->type);
    if (d->id >= 0)
        H5Oclose(d->id);
}

static int dset_shape(struct ptq_h5 *h, const char *name, struct dset *d, struct ptq_status *st)
{
    struct ptq_h5_info *f = &d->info;
    hsize_t dim[H5S_MAX_RANK];
    f->rank = H5Sget_simple_extent_ndims(d->space);
    H5S_class_t c = H5Sget_simple_extent_type(d->space);
    if ((c != H5S_SIMPLE && c != H5S_SCALAR) || f->rank < 0 || f->rank > PTQ_H5_MAX_RANK)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s has %d dimensions; 0 to %d are read",
                              h->path, name, f->rank, PTQ_H5_MAX_RANK);
    if (H5Sget_simple_extent_dims(d->space, dim, NULL) < 0)
        return fail_hdf5(h, st, name, "reading the shape", PTQ_ERR_USAGE);
    int64_t bytes = 8;
    f->n = 1;
    for (int i = 0; i < f->rank; i++) {
        f->dim[i] = dim[i] > INT64_MAX ? -1 : (int64_t)dim[i];
        if (!ptq_size_mul(f->n, f->dim[i], &f->n))
            f->n = -1;
    }
    if (f->n < 0 || !ptq_size_mul(f->n, 8, &bytes) || bytes > max_bytes)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s is too large: over %lld elements", h->path,
                              name, (long long)(max_bytes / 8));
    return PTQ_OK;
}

static bool chunks_sane(hid_t dcpl, size_t size)
{
    hsize_t dim[H5S_MAX_RANK];
    int rank = H5Pget_chunk(dcpl, H5S_MAX_RANK, dim);
    int64_t bytes = (int64_t)size;
    for (int i = 0; i < rank; i++)
        if (dim[i] > INT64_MAX || !ptq_size_mul(bytes, (int64_t)dim[i], &bytes))
            return false;
    return rank > 0 && bytes <= max_chunk_bytes;
}

/* What is stored must be in this file and be able to hold what the shape claims, before memory is
 * taken for it. */
static int dset_storage(struct ptq_h5 *h, const char *name, const struct dset *d,
                        struct ptq_status *st)
{
    int64_t want = 0, stored = (int64_t)H5Dget_storage_size(d->id);
    hid_t dcpl = H5Dget_create_plist(d->id);
    H5D_layout_t layout = H5Pget_layout(dcpl);
    bool foreign = H5Pget_external_count(dcpl) != 0 || layout == H5D_VIRTUAL;
    bool sane = layout == H5D_CHUNKED ? chunks_sane(dcpl, d->size)
                                      : layout == H5D_CONTIGUOUS || layout == H5D_COMPACT;
    H5Pclose(dcpl);
    if (foreign)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s keeps its data in another file; copy the data into the file",
                              h->path, name);
    bool fits = ptq_size_mul(d->info.n, (int64_t)d->size, &want) && stored >= 0;
    if (!h->writable && stored > h->file_bytes)
        fits = false;
    if (layout == H5D_CHUNKED)
        fits = fits && (stored > INT64_MAX / max_expansion || want <= stored * max_expansion);
    else
        fits = fits && want <= stored;
    if (!sane || !fits)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s claims %lld elements of %zu bytes but %lld bytes are stored; "
                              "it was never written or the file is damaged: write it again",
                              h->path, name, (long long)d->info.n, d->size, (long long)stored);
    return PTQ_OK;
}

static bool is_encoded_bf16(hid_t id)
{
    char text[8] = "";
    bool yes = false;
    if (H5Aexists(id, "encoding") <= 0)
        return false;
    hid_t a = H5Aopen(id, "encoding", H5P_DEFAULT);
    hid_t t = a < 0 ? -1 : H5Aget_type(a), s = a < 0 ? -1 : H5Aget_space(a);
    if (t >= 0 && s >= 0 && H5Tget_class(t) == H5T_STRING && H5Sget_simple_extent_npoints(s) == 1) {
        char *v = NULL;
        if (H5Tis_variable_str(t) > 0) {
            if (H5Aread(a, t, &v) >= 0 && v)
                yes = strcmp(v, "bf16") == 0;
            H5free_memory(v);
        } else if (H5Tget_size(t) < sizeof text && H5Aread(a, t, text) >= 0)
            yes = strncmp(text, "bf16", 4) == 0;
    }
    if (s >= 0)
        H5Sclose(s);
    if (t >= 0)
        H5Tclose(t);
    if (a >= 0)
        H5Aclose(a);
    return yes;
}

static int dset_open(struct ptq_h5 *h, const char *name, struct dset *d, struct ptq_status *st)
{
    memset(d, 0, sizeof *d);
    d->type = d->space = -1;
    d->id = open_object(h, name, st);
    if (d->id < 0)
        return PTQ_ERR_USAGE;
    if (H5Iget_type(d->id) != H5I_DATASET)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s is not a dataset", h->path, name);
    d->type = H5Dget_type(d->id);
    d->space = H5Dget_space(d->id);
    if (d->type < 0 || d->space < 0)
        return fail_hdf5(h, st, name, "reading type and shape", PTQ_ERR_USAGE);
    d->class = H5Tget_class(d->type);
    d->size = H5Tget_size(d->type);
    if (d->class == H5T_FLOAT)
        d->info.type = float_type(d->type, d->size);
    else if (d->class == H5T_INTEGER) {
        d->info.type = integer_type(d->type, d->size);
        d->no_sign = H5Tget_sign(d->type) == H5T_SGN_NONE;
    } else if (d->class == H5T_STRING)
        d->info.type = PTQ_H5_TEXT;
    if (d->info.type == PTQ_H5_U16 && is_encoded_bf16(d->id))
        d->info.type = PTQ_H5_BF16;
    return dset_shape(h, name, d, st);
}

int ptq_h5_info(struct ptq_h5 *h, const char *dataset, struct ptq_h5_info *info,
                struct ptq_status *st)
{
    struct dset d;
    pthread_mutex_lock(&h5_lock);
    int rc = dset_open(h, dataset, &d, st);
    if (rc == PTQ_OK)
        *info = d.info;
    dset_close(&d);
    pthread_mutex_unlock(&h5_lock);
    return rc;
}

/* ---- datasets: reading ---------------------------------------------------------------------- */

struct reading { /* one read in progress */
    struct ptq_h5 *h;
    const char *name;
    struct ptq_arena *arena;
    struct ptq_status *st;
    struct dset d;
    hid_t memory, part; /* spaces of a part of the dataset; 0 (H5S_ALL): the whole */
    float *into;        /* where the part goes; NULL: into the arena */
};

static int read_as(struct reading *r, hid_t memory_type, void *at)
{
    if (r->d.info.n == 0)
        return PTQ_OK;
    if (H5Dread(r->d.id, memory_type, r->memory, r->part, H5P_DEFAULT, at) < 0)
        return fail_hdf5(r->h, r->st, r->name, "reading", PTQ_ERR_IO);
    return PTQ_OK;
}

static int wrong_type(struct reading *r, const char *wanted)
{
    static const char *const have[] = {"an unknown type", "f16",    "bf16",  "f32",   "f64",
                                       "uint8",           "uint16", "int32", "int64", "text"};
    return ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: %s holds %s; %s is needed", r->h->path,
                          r->name, have[r->d.info.type], wanted);
}

/* 16-bit values are read into the tail of the result and widened in place from the front: value i
 * ends at byte width * (i + 1), which never passes the next unread one at (width - 2) * n + 2 * (i
 * + 1) as long as i < n. */
static int read_16(struct reading *r, size_t width, unsigned char *at)
{
    int64_t n = r->d.info.n;
    unsigned char *src = at + (width - 2) * (size_t)n;
    bool half = r->d.info.type == PTQ_H5_F16;
    hid_t t = half ? half_type() : H5Tcopy(H5T_STD_U16LE);
    int rc = read_as(r, t, src);
    H5Tclose(t);
    for (int64_t i = 0; rc == PTQ_OK && i < n; i++) {
        uint16_t v;
        memcpy(&v, src + 2 * i, 2);
        float f = half ? ptq_f32_from_f16(v) : ptq_f32_from_bf16(v);
        double g = f;
        memcpy(at + width * (size_t)i, width == 4 ? (void *)&f : (void *)&g, width);
    }
    return rc;
}

static int read_floats(struct reading *r, size_t width, void **out)
{
    enum ptq_h5_type t = r->d.info.type;
    if (t != PTQ_H5_F16 && t != PTQ_H5_BF16 && t != PTQ_H5_F32 && t != PTQ_H5_F64)
        return wrong_type(r, "a floating type (f16, bf16, f32 or f64)");
    void *at = r->into ? r->into : ptq_arena_alloc(r->arena, r->st, r->d.info.n, width);
    if (!at)
        return PTQ_ERR_MEMORY;
    *out = at;
    if (t == PTQ_H5_F16 || t == PTQ_H5_BF16)
        return read_16(r, width, at);
    return read_as(r, width == 4 ? H5T_NATIVE_FLOAT : H5T_NATIVE_DOUBLE, at);
}

static int read_i64(struct reading *r, size_t width, void **out)
{
    if (r->d.class != H5T_INTEGER || !plain_integer(r->d.type, r->d.size) ||
        r->d.info.type == PTQ_H5_BF16)
        return wrong_type(r, "an integer type");
    int64_t *at = ptq_arena_alloc(r->arena, r->st, r->d.info.n, width);
    if (!at)
        return PTQ_ERR_MEMORY;
    /* Unsigned 64-bit values are read as they are, since HDF5 would clamp what does not fit. */
    bool wide = r->d.no_sign && r->d.size == 8;
    int rc = read_as(r, wide ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64, at);
    for (int64_t i = 0; rc == PTQ_OK && wide && i < r->d.info.n; i++)
        if (at[i] < 0)
            rc = ptq_status_set(r->st, PTQ_ERR_USAGE, "%s: %s: value %lld is over 2^63 - 1",
                                r->h->path, r->name, (long long)i);
    *out = at;
    return rc;
}

static int read_u8(struct reading *r, size_t width, void **out)
{
    if (r->d.info.type != PTQ_H5_U8)
        return wrong_type(r, "uint8");
    void *at = ptq_arena_alloc(r->arena, r->st, r->d.info.n, width);
    if (!at)
        return PTQ_ERR_MEMORY;
    *out = at;
    return read_as(r, H5T_NATIVE_UINT8, at);
}

typedef int reader(struct reading *, size_t width, void **out);

static int read_any(struct reading *r, reader *fn, size_t width, void **out,
                    struct ptq_h5_info *info)
{
    pthread_mutex_lock(&h5_lock);
    int rc = dset_open(r->h, r->name, &r->d, r->st);
    if (rc == PTQ_OK)
        rc = dset_storage(r->h, r->name, &r->d, r->st);
    if (rc == PTQ_OK)
        rc = fn(r, width, out);
    if (rc == PTQ_OK && info)
        *info = r->d.info;
    dset_close(&r->d);
    pthread_mutex_unlock(&h5_lock);
    return rc;
}

#define READER(NAME, T, FN)                                                                        \
    int ptq_h5_read_##NAME(struct ptq_h5 *h, const char *dataset, struct ptq_arena *arena,         \
                           T **out, struct ptq_h5_info *info, struct ptq_status *st)               \
    {                                                                                              \
        struct reading r = {.h = h, .name = dataset, .arena = arena, .st = st};                    \
        void *at = NULL;                                                                           \
        int rc = read_any(&r, FN, sizeof(T), &at, info);                                           \
        if (rc == PTQ_OK)                                                                          \
            *out = at;                                                                             \
        return rc;                                                                                 \
    }

READER(f32, float, read_floats)
READER(f64, double, read_floats)
READER(i64, int64_t, read_i64)
READER(u8, uint8_t, read_u8)

/* Rows first .. first + n - 1 of a dataset of one or two axes; *space stays open. */
static int select_rows(struct ptq_h5 *h, const char *name, const struct dset *d, int64_t first,
                       int64_t n, hid_t space, struct ptq_status *st)
{
    if (d->info.rank < 1 || d->info.rank > 2 || first < 0 || n < 0 || first > d->info.dim[0] ||
        n > d->info.dim[0] - first)
        return ptq_status_set(st, PTQ_ERR_USAGE,
                              "%s: %s: rows %lld .. %lld are wanted of %d axes, the first of %lld",
                              h->path, name, (long long)first, (long long)(first + n), d->info.rank,
                              (long long)d->info.dim[0]);
    const hsize_t from[2] = {(hsize_t)first, 0}, count[2] = {(hsize_t)n, (hsize_t)d->info.dim[1]};
    if (H5Sselect_hyperslab(space, H5S_SELECT_SET, from, NULL, count, NULL) < 0)
        return fail_hdf5(h, st, name, "selecting rows", PTQ_ERR_IO);
    return PTQ_OK;
}

static int64_t row_length(const struct dset *d)
{
    return d->info.rank == 2 ? d->info.dim[1] : 1;
}

static int read_rows_locked(struct reading *r, int64_t first, int64_t n_rows)
{
    void *ignored;
    int rc = dset_open(r->h, r->name, &r->d, r->st);
    if (rc == PTQ_OK)
        rc = dset_storage(r->h, r->name, &r->d, r->st);
    if (rc == PTQ_OK)
        rc = select_rows(r->h, r->name, &r->d, first, n_rows, r->d.space, r->st);
    if (rc != PTQ_OK || n_rows == 0)
        return rc;
    r->d.info.n = n_rows * row_length(&r->d);
    const hsize_t n = (hsize_t)r->d.info.n;
    r->memory = H5Screate_simple(1, &n, NULL);
    r->part = r->d.space;
    rc = read_floats(r, sizeof(float), &ignored);
    H5Sclose(r->memory);
    return rc;
}

int ptq_h5_read_rows_f32(struct ptq_h5 *h, const char *dataset, int64_t first, int64_t n_rows,
                         float *out, struct ptq_status *st)
{
    struct reading r = {.h = h, .name = dataset, .st = st, .into = out};
    pthread_mutex_lock(&h5_lock);
    int rc = read_rows_locked(&r, first, n_rows);
    dset_close(&r.d);
    pthread_mutex_unlock(&h5_lock);
    return rc;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Creates the groups above `object`, and object itself as a group with self. */
static int make_groups(struct ptq_h5 *h, const char *object, bool self, struct ptq_status *st)
{
    char prefix[MAX_PATH];
    size_t n = strlen(object);
    if (n >= sizeof prefix)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: an object's path is over %d bytes", h->path,
                              MAX_PATH - 1);
    int rc = PTQ_OK;
    for (size_t i = 1; i <= n && rc == PTQ_OK; i++) {
        if ((object[i] != '/' && !(self && object[i] == '\0')) || object[i - 1] == '/')
            continue;
        memcpy(prefix, object, i);
        prefix[i] = '\0';
        if (H5Lexists(h->file, prefix, h->lapl) > 0)
            continue;
        hid_t g = H5Gcreate2(h->file, prefix, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        if (g < 0)
            rc = fail_hdf5(h, st, prefix, "creating a group", PTQ_ERR_IO);
        else
            H5Gclose(g);
    }
    return rc;
}

static hid_t stored_type(enum ptq_h5_type t)
{
    switch (t) {
    case PTQ_H5_F16: return half_type();
    case PTQ_H5_BF16: return H5Tcopy(H5T_STD_U16LE);
    case PTQ_H5_F32: return H5Tcopy(H5T_IEEE_F32LE);
    case PTQ_H5_F64: return H5Tcopy(H5T_IEEE_F64LE);
    case PTQ_H5_U8: return H5Tcopy(H5T_STD_U8LE);
    case PTQ_H5_U16: return H5Tcopy(H5T_STD_U16LE);
    case PTQ_H5_I32: return H5Tcopy(H5T_STD_I32LE);
    case PTQ_H5_I64: return H5Tcopy(H5T_STD_I64LE);
    case PTQ_H5_TEXT:
    case PTQ_H5_OTHER: break;
    }
    return -1;
}

/* New attribute in place of one of the same name. */
static int set_attr(struct ptq_h5 *h, hid_t obj, const char *object, const char *name, hid_t type,
                    const void *value, struct ptq_status *st)
{
    if (H5Aexists(obj, name) > 0)
        H5Adelete(obj, name);
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(obj, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    int rc = PTQ_OK;
    if (a < 0 || H5Awrite(a, type, value) < 0)
        rc = fail_hdf5(h, st, object, "writing an attribute", PTQ_ERR_IO);
    if (a >= 0)
        H5Aclose(a);
    H5Sclose(space);
    return rc;
}

/* Variable-length UTF-8: h5py reads it as str. */
static hid_t text_type(void)
{
    hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, H5T_VARIABLE);
    H5Tset_cset(t, H5T_CSET_UTF8);
    return t;
}

struct writing {
    struct ptq_h5 *h;
    const char *name;
    enum ptq_h5_type type;
    int rank;
    int64_t n;
    hsize_t dim[PTQ_H5_MAX_RANK];
    const void *data;
    struct ptq_status *st;
    hid_t memory, part; /* spaces of a part of the dataset; 0 (H5S_ALL): the whole */
};

static int mark_bf16(const struct writing *w, hid_t id)
{
    const char *bf16 = "bf16";
    hid_t t = text_type();
    int rc = set_attr(w->h, id, w->name, "encoding", t, &bf16, w->st);
    H5Tclose(t);
    return rc;
}

static int write_values(const struct writing *w, hid_t id, hid_t type)
{
    bool half = w->type == PTQ_H5_F16;
    if (w->n == 0)
        return PTQ_OK;
    if (!half && w->type != PTQ_H5_BF16)
        return H5Dwrite(id, type, w->memory, w->part, H5P_DEFAULT, w->data) < 0
                   ? fail_hdf5(w->h, w->st, w->name, "writing", PTQ_ERR_IO)
                   : PTQ_OK;
    uint16_t *u = malloc((size_t)w->n * sizeof *u);
    if (!u)
        return ptq_status_nomem(w->st, w->name, (size_t)w->n * sizeof *u);
    const float *x = w->data;
    for (int64_t i = 0; i < w->n; i++)
        u[i] = half ? ptq_f16_from_f32(x[i]) : ptq_bf16_from_f32(x[i]);
    int rc = PTQ_OK;
    if (H5Dwrite(id, type, w->memory, w->part, H5P_DEFAULT, u) < 0)
        rc = fail_hdf5(w->h, w->st, w->name, "writing", PTQ_ERR_IO);
    free(u);
    return rc;
}

static int write_locked(const struct writing *w)
{
    int rc = make_groups(w->h, w->name, false, w->st);
    if (rc != PTQ_OK)
        return rc;
    if (H5Lexists(w->h->file, w->name, w->h->lapl) > 0 &&
        H5Ldelete(w->h->file, w->name, w->h->lapl) < 0)
        return fail_hdf5(w->h, w->st, w->name, "replacing", PTQ_ERR_IO);
    hid_t type = stored_type(w->type);
    hid_t space = w->rank ? H5Screate_simple(w->rank, w->dim, NULL) : H5Screate(H5S_SCALAR);
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(dcpl, false); /* the same contents give the same file */
    H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER);
    hid_t id = H5Dcreate2(w->h->file, w->name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    rc = id < 0    ? fail_hdf5(w->h, w->st, w->name, "creating", PTQ_ERR_IO)
         : w->data ? write_values(w, id, type)
                   : PTQ_OK;
    if (rc == PTQ_OK && w->type == PTQ_H5_BF16)
        rc = mark_bf16(w, id);
    if (id >= 0 && H5Dclose(id) < 0 && rc == PTQ_OK)
        rc = fail_hdf5(w->h, w->st, w->name, "closing", PTQ_ERR_IO);
    H5Pclose(dcpl);
    H5Sclose(space);
    H5Tclose(type);
    /* A full disk shows here, not at the end; and a killed process leaves a file that opens. */
    if (rc == PTQ_OK && H5Fflush(w->h->file, H5F_SCOPE_LOCAL) < 0)
        rc = fail_hdf5(w->h, w->st, w->name, "flushing", PTQ_ERR_IO);
    return rc;
}

int ptq_h5_write(struct ptq_h5 *h, const char *dataset, enum ptq_h5_type type, int rank,
                 const int64_t *dim, const void *data, struct ptq_status *st)
{
    struct writing w = {
        .h = h, .name = dataset, .type = type, .rank = rank, .n = 1, .data = data, .st = st};
    int64_t bytes;
    if (!h->writable)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: was opened for reading", h->path);
    for (int i = 0; i < rank && i < PTQ_H5_MAX_RANK; i++) {
        w.dim[i] = (hsize_t)dim[i];
        if (!ptq_size_mul(w.n, dim[i], &w.n))
            w.n = INT64_MAX;
    }
    if (rank < 0 || rank > PTQ_H5_MAX_RANK || !ptq_size_mul(w.n, 8, &bytes) ||
        type == PTQ_H5_OTHER || type == PTQ_H5_TEXT)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: %s: this shape or type cannot be written",
                              h->path, dataset);
    pthread_mutex_lock(&h5_lock);
    int rc = write_locked(&w);
    pthread_mutex_unlock(&h5_lock);
    return rc;
}

static int write_rows_locked(struct writing *w, int64_t first, int64_t n_rows)
{
    struct dset d;
    int rc = dset_open(w->h, w->name, &d, w->st);
    if (rc == PTQ_OK)
        rc = select_rows(w->h, w->name, &d, first, n_rows, d.space, w->st);
    if (rc == PTQ_OK && n_rows > 0) {
        w->type = d.info.type;
        w->n = n_rows * row_length(&d);
        const hsize_t n = (hsize_t)w->n;
        hid_t type = stored_type(w->type);
        w->memory = H5Screate_simple(1, &n, NULL);
        w->part = d.space;
        rc = write_values(w, d.id, type);
        H5Sclose(w->memory);
        H5Tclose(type);
    }
    dset_close(&d);
    return rc;
}

int ptq_h5_write_rows(struct ptq_h5 *h, const char *dataset, int64_t first, int64_t n_rows,
                      const void *data, struct ptq_status *st)
{
    struct writing w = {.h = h, .name = dataset, .data = data, .st = st};
    if (!h->writable)
        return ptq_status_set(st, PTQ_ERR_USAGE, "%s: was opened for reading", h->path);
    pthread_mutex_lock(&h5_lock);
    int rc = write_rows_locked(&w, first, n_rows);
    pthread_mutex_unlock(&h5_lock);
    return rc;
}

static int put_attr(struct ptq_h5 *h, const char *object, const char *name, hid_t type,
                    const void *value, struct ptq_status *st)
{
    int rc = make_groups(h, object, true, st);
    hid_t obj = rc == PTQ_OK ? open_object(h, object, st) : -1;
    if (obj < 0)
        return rc == PTQ_OK ? PTQ_ERR_USAGE : rc;
    rc = set_attr(h, obj, object, name, type, value, st);
    H5Oclose(obj);
    return rc;
}

static int not_writable(struct ptq_h5 *h, struct ptq_status *st)
{
    return h->writable ? PTQ_OK
                       : ptq_status_set(st, PTQ_ERR_USAGE, "%s: was opened for reading", h->path);
}

int ptq_h5_set_text(struct ptq_h5 *h, const char *object, const char *name, const char *value,
                    struct ptq_status *st)
{
    if (not_writable(h, st))
        return PTQ_ERR_USAGE;
    pthread_mutex_lock(&h5_lock);
    hid_t t = text_type();
    int rc = put_attr(h, object, name, t, &value, st);
    H5Tclose(t);
    pthread_mutex_unlock(&h5_lock);
    return rc;
}

int ptq_h5_set_f64(struct ptq_h5 *h, const char *object, const char *name, double value,
                   struct ptq_status *st)
{
    if (not_writable(h, st))
        return PTQ_ERR_USAGE;
    pthread_mutex_lock(&h5_lock);
    int rc = put_attr(h, object, name, H5T_IEEE_F64LE, &value, st);
    pthread_mutex_unlock(&h5_lock);
    return rc;
}

int ptq_h5_set_i64(struct ptq_h5 *h, const char *object, const char *name, int64_t value,
                   struct ptq_status *st)
{
    if (not_writable(h, st))
        return PTQ_ERR_USAGE;
    pthread_mutex_lock(&h5_lock);
    int rc = put_attr(h, object, name, H5T_STD_I64LE, &value, st);
    pthread_mutex_unlock(&h5_lock);
    return rc;
}
