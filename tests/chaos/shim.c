/* Sees, and spoils, what a process does to the files below one folder. For 64-bit Linux.
 *
 * Preloaded (LD_PRELOAD), it numbers every operation that changes something below $CHAOS_UNDER:
 * open for writing, write, truncate, fsync, rename, link, unlink, mkdir. Numbers count on through
 * all processes that share one state file.
 *
 *   CHAOS_UNDER  the folder, absolute
 *   CHAOS_STATE  file of one `struct state`: counters, who stopped, whether he may go on
 *   CHAOS_LOG    a line for each operation is appended here: number, process, kind, result or
 *                -errno, path, other path, offset, bytes, where these bytes lie in $CHAOS_DATA;
 *                separated by tabs
 *   CHAOS_DATA   all bytes that were written
 *   CHAOS_DO     "before", "half" (of a write; else like before), "after": SIGKILL there;
 *                "stop": wait there until the state says to go on
 *   CHAOS_AT     the number of the operation at which that happens
 *   CHAOS_FAIL   "KIND:N:ERRNO": operations of the kind fail from its Nth on; KIND is one of the
 *                names below or "any"; "read" is opening for reading, which has no number and no
 *                line.
 *
 * chaos_configure() reads the environment again: for a process forked from one that has not begun.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { ANY, OPEN, CREATE, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, MKDIR, READ, KINDS };
static const char *NAMES[KINDS] = {"any",    "open", "create", "write", "truncate", "sync",
                                   "rename", "link", "unlink", "mkdir", "read"};

struct state {
    uint64_t operations, data, stopped, released, kinds[KINDS];
};

static struct {
    const char *under, *how;
    struct state *state;
    uint64_t at, fail_from;
    int log, data, fail_kind, fail_errno;
} the = {.log = -1, .data = -1};

typedef struct {
    uint64_t number;
    int failure;
} Operation;

static int opened(const char *variable, int flags) {
    const char *path = getenv(variable);
    return path ? (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CREAT | O_CLOEXEC, 0644) : -1;
}

__attribute__((constructor)) void chaos_configure(void) {
    the.under = getenv("CHAOS_UNDER");
    if (!the.under) return;
    int file = opened("CHAOS_STATE", O_RDWR);
    if (file < 0 || syscall(SYS_ftruncate, file, sizeof(struct state))) abort();
    the.state = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (the.state == MAP_FAILED) abort();
    close(file);
    the.log = opened("CHAOS_LOG", O_WRONLY | O_APPEND);
    the.data = opened("CHAOS_DATA", O_WRONLY);
    const char *at = getenv("CHAOS_AT"), *fail = getenv("CHAOS_FAIL");
    the.how = getenv("CHAOS_DO");
    the.at = at ? strtoull(at, NULL, 10) : 0;
    the.fail_errno = 0;
    if (fail) {
        size_t length = strcspn(fail, ":");
        for (int kind = 0; kind < KINDS; kind++)
            if (strlen(NAMES[kind]) == length && !strncmp(NAMES[kind], fail, length))
                the.fail_kind = kind;
        if (sscanf(fail + length, ":%lu:%d", &the.fail_from, &the.fail_errno) != 2) abort();
    }
}

static void path_of(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static void resolve(int folder, const char *name, char *path) {
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return;
    }
    if (folder == AT_FDCWD) {
        if (!getcwd(path, PATH_MAX)) path[0] = 0;
    } else
        path_of(folder, path);
    size_t used = strlen(path);
    snprintf(path + used, PATH_MAX - used, "/%s", name);
}

static int ours(const char *path) {
    size_t length = the.state ? strlen(the.under) : 0;
    return length && !strncmp(path, the.under, length) && (path[length] == '/' || !path[length]);
}

static int does(const char *how) { return the.how && !strcmp(the.how, how); }

static void killed(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

static int failure(int kind) {
    uint64_t so_far = __atomic_add_fetch(&the.state->kinds[kind], 1, __ATOMIC_SEQ_CST);
    if (the.fail_kind == ANY) so_far = the.state->operations;
    int meant = the.fail_kind == kind || (the.fail_kind == ANY && kind != READ);
    return the.fail_errno && meant && so_far >= the.fail_from ? the.fail_errno : 0;
}

static Operation begins(int kind, const char *path, const char *other) {
    Operation operation = {0, 0};
    if (!ours(path) && !(other && ours(other))) return operation;
    operation.number = __atomic_add_fetch(&the.state->operations, 1, __ATOMIC_SEQ_CST);
    if (operation.number == the.at) {
        if (does("before") || (does("half") && kind != WRITE)) killed();
        if (does("stop")) {
            struct timespec moment = {0, 1000000};
            __atomic_store_n(&the.state->stopped, getpid(), __ATOMIC_SEQ_CST);
            while (!__atomic_load_n(&the.state->released, __ATOMIC_SEQ_CST))
                nanosleep(&moment, NULL);
        }
    }
    operation.failure = failure(kind);
    return operation;
}

static void ends(Operation operation, int kind, long result, const char *path, const char *other,
                 long offset, long bytes, uint64_t data) {
    if (!operation.number) return;
    int before = errno;
    if (the.log >= 0) {
        char line[2 * PATH_MAX + 200];
        int length = snprintf(line, sizeof line, "%lu\t%d\t%s\t%ld\t%s\t%s\t%ld\t%ld\t%lu\n",
                              operation.number, getpid(), NAMES[kind], result < 0 ? -errno : result,
                              path, other ? other : "", offset, bytes, data);
        syscall(SYS_write, the.log, line, length);
    }
    if (operation.number == the.at && does("after")) killed();
    errno = before;
}

static long answer(Operation operation, long result) {
    if (!operation.failure) return result;
    errno = operation.failure;
    return -1;
}

/* Run `call` as an operation, unless it is to fail. */
#define AS(kind, path, other, call)                                                      \
    Operation operation = begins(kind, path, other);                                     \
    long result = operation.failure ? answer(operation, -1) : (call);                    \
    ends(operation, kind, result, path, other, -1, -1, 0);                               \
    return (int)result

static int open_any(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    resolve(folder, name, path);
    int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (!changes) {
        if (ours(path)) {
            int failed = failure(READ);
            if (failed) {
                errno = failed;
                return -1;
            }
        }
        return (int)syscall(SYS_openat, folder, name, flags, mode);
    }
    int there = syscall(SYS_faccessat, folder, name, F_OK) == 0;
    enum kind kind = there ? (flags & O_TRUNC ? TRUNCATE : OPEN) : CREATE;
    AS(kind, path, NULL, syscall(SYS_openat, folder, name, flags, mode));
}

#define MODE                                  \
    mode_t mode = 0;                          \
    if (flags & (O_CREAT | O_TMPFILE)) {      \
        va_list rest;                         \
        va_start(rest, flags);                \
        mode = va_arg(rest, mode_t);          \
        va_end(rest);                         \
    }

int open(const char *name, int flags, ...) { MODE return open_any(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return open_any(AT_FDCWD, name, flags, mode); }
int openat(int folder, const char *name, int flags, ...) {
    MODE return open_any(folder, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...) {
    MODE return open_any(folder, name, flags, mode);
}
int creat(const char *name, mode_t mode) {
    return open_any(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* Every way to write comes down to one buffer at one offset (-1: where the file stands). */
static ssize_t write_any(int file, const struct iovec *parts, int count, off_t offset) {
    char path[PATH_MAX];
    path_of(file, path);
    if (!ours(path))
        return offset < 0 ? syscall(SYS_writev, file, parts, count)
                          : syscall(SYS_pwritev, file, parts, count, offset, 0);
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
    char *whole = malloc(bytes + 1), *end = whole;
    for (int i = 0; i < count; i++) end = mempcpy(end, parts[i].iov_base, parts[i].iov_len);
    Operation operation = begins(WRITE, path, NULL);
    int torn = operation.number == the.at && does("half");
    size_t wanted = torn ? bytes / 2 : bytes;
    long at = offset < 0 ? (long)lseek(file, 0, SEEK_CUR) : (long)offset;
    long result = operation.failure ? answer(operation, -1)
                  : offset < 0      ? syscall(SYS_write, file, whole, wanted)
                                    : syscall(SYS_pwrite64, file, whole, wanted, offset);
    if (torn) killed();
    uint64_t data = 0;
    if (result > 0 && the.data >= 0) {
        data = __atomic_fetch_add(&the.state->data, (uint64_t)result, __ATOMIC_SEQ_CST);
        syscall(SYS_pwrite64, the.data, whole, result, data);
    }
    ends(operation, WRITE, result, path, NULL, at, result, data);
    free(whole);
    return result;
}

ssize_t write(int file, const void *bytes, size_t length) {
    struct iovec part = {(void *)bytes, length};
    return write_any(file, &part, 1, -1);
}
ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
    struct iovec part = {(void *)bytes, length};
    return write_any(file, &part, 1, offset);
}
ssize_t pwrite64(int file, const void *bytes, size_t length, off_t offset) {
    return pwrite(file, bytes, length, offset);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    return write_any(file, parts, count, -1);
}
ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset) {
    return write_any(file, parts, count, offset);
}

static int truncate_any(const char *path, int file, off_t length) {
    AS(TRUNCATE, path, NULL, syscall(SYS_ftruncate, file, length));
}
int ftruncate(int file, off_t length) {
    char path[PATH_MAX];
    path_of(file, path);
    return truncate_any(path, file, length);
}
int ftruncate64(int file, off_t length) { return ftruncate(file, length); }

static int sync_any(int file, long call) {
    char path[PATH_MAX];
    path_of(file, path);
    AS(SYNC, path, NULL, syscall(call, file));
}
int fsync(int file) { return sync_any(file, SYS_fsync); }
int fdatasync(int file) { return sync_any(file, SYS_fdatasync); }

static int rename_any(int from, const char *name, int to, const char *other, unsigned flags) {
    char source[PATH_MAX], target[PATH_MAX];
    resolve(from, name, source);
    resolve(to, other, target);
    AS(RENAME, source, target, syscall(SYS_renameat2, from, name, to, other, flags));
}
int rename(const char *from, const char *to) {
    return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int folder, const char *from, int other, const char *to) {
    return rename_any(folder, from, other, to, 0);
}
int renameat2(int folder, const char *from, int other, const char *to, unsigned flags) {
    return rename_any(folder, from, other, to, flags);
}

int linkat(int from, const char *name, int to, const char *other, int flags) {
    char source[PATH_MAX], target[PATH_MAX];
    resolve(from, name, source);
    resolve(to, other, target);
    AS(LINK, source, target, syscall(SYS_linkat, from, name, to, other, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    resolve(folder, name, path);
    AS(UNLINK, path, NULL, syscall(SYS_unlinkat, folder, name, flags));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    resolve(folder, name, path);
    AS(MKDIR, path, NULL, syscall(SYS_mkdirat, folder, name, mode));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
