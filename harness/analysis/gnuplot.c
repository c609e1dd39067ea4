/* gnuplot.c: runs gnuplot as a child process: no shell, no start-up files, nothing on its stdin, a
 * time limit, and its complaints kept for the message. */
#include "analysis/gnuplot.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/clock.h"

enum { LIMIT_S = 120 };
extern char **environ;

static int spawn(pid_t *pid, const char *script, const char *path, int write_end, int read_end)
{
    posix_spawn_file_actions_t act;
    char *const argv[] = {"gnuplot", "-d", "-e", (char *)(uintptr_t)script, (char *)(uintptr_t)path,
                          NULL};
    if (posix_spawn_file_actions_init(&act))
        return ENOMEM;
    int error = posix_spawn_file_actions_addopen(&act, 0, "/dev/null", O_RDONLY, 0);
    error = error ? error : posix_spawn_file_actions_adddup2(&act, write_end, 1);
    error = error ? error : posix_spawn_file_actions_adddup2(&act, write_end, 2);
    error = error ? error : posix_spawn_file_actions_addclose(&act, write_end);
    error = error ? error : posix_spawn_file_actions_addclose(&act, read_end);
    error = error ? error : posix_spawnp(pid, "gnuplot", &act, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&act);
    return error;
}

/* Reads until the child closes its end; keeps the first bytes. False: the time is up. */
static bool listen_to(int fd, char *text, size_t size)
{
    int64_t end = ptq_now_ns() + (int64_t)LIMIT_S * 1000000000;
    size_t n = 0;
    char part[1024];
    for (;;) {
        int64_t left_ms = (end - ptq_now_ns()) / 1000000;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = left_ms > 0 ? poll(&p, 1, (int)left_ms) : 0;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return false;
        ssize_t got = read(fd, part, sizeof part);
        if (got <= 0)
            return true;
        size_t keep = (size_t)got < size - 1 - n ? (size_t)got : size - 1 - n;
        memcpy(text + n, part, keep);
        n += keep;
        text[n] = 0;
    }
}

/* The line that says what is wrong: gnuplot's own lines hold "line N:" or "error". */
static const char *complaint(char *text)
{
    char *found = NULL;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        if (!found || strstr(line, "line "))
            found = *line ? line : found;
    }
    return found ? found : "no message";
}

int ptq_gnuplot(const char *script, const char *path, struct ptq_status *st)
{
    int ends[2], status = 0;
    pid_t pid;
    char text[4096] = "";
    if (pipe2(ends, O_CLOEXEC))
        return ptq_status_set(st, PTQ_SKIP, "gnuplot: no pipe: %s", strerror(errno));
    int error = spawn(&pid, script, path, ends[1], ends[0]);
    close(ends[1]);
    if (error) {
        close(ends[0]);
        if (error == ENOENT)
            return ptq_status_set(
                st, PTQ_SKIP,
                "gnuplot is not installed (not in PATH); on Debian: apt-get install gnuplot-nox");
        return ptq_status_set(st, PTQ_SKIP, "gnuplot cannot be started: %s", strerror(error));
    }
    bool in_time = listen_to(ends[0], text, sizeof text);
    close(ends[0]);
    if (!in_time)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!in_time)
        return ptq_status_set(st, PTQ_SKIP, "%s: gnuplot took more than %d s and was ended", path,
                              LIMIT_S);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 127)
        return ptq_status_set(st, PTQ_SKIP,
                              "gnuplot is not installed or was ended by a signal; on Debian: "
                              "apt-get install gnuplot-nox");
    if (WEXITSTATUS(status))
        return ptq_status_set(st, PTQ_SKIP, "%s: gnuplot failed: %.600s", path, complaint(text));
    return PTQ_OK;
}
