#include "core/progress.h"
#include "core/clock.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LABEL_BYTES = 200, LINE_BYTES = 512, REDRAW_NS = 100 * 1000 * 1000 };

struct ptq_progress {
    pthread_mutex_t lock;
    char title[64], label[LABEL_BYTES];
    int64_t total, done, start_ns, drawn_ns;
    bool terminal, quiet;
};

struct ptq_progress *ptq_progress_new(const char *title, int64_t total, bool quiet)
{
    struct ptq_progress *p = calloc(1, sizeof *p);
    if (!p || pthread_mutex_init(&p->lock, NULL)) {
        free(p);
        return NULL;
    }
    snprintf(p->title, sizeof p->title, "%s", title);
    p->total = total > 0 ? total : 0;
    p->start_ns = ptq_now_ns();
    p->terminal = isatty(STDERR_FILENO);
    p->quiet = quiet;
    return p;
}

/* "4.2 s", "3:07", "2:03:07" */
static void duration(double seconds, char *out, size_t size)
{
    int64_t s = (int64_t)(seconds + .5);
    if (seconds < 10)
        snprintf(out, size, "%.1f s", seconds);
    else if (s < 3600)
        snprintf(out, size, "%" PRId64 ":%02d", s / 60, (int)(s % 60));
    else
        snprintf(out, size, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
}

/* "12/48" or, of an unknown total, "12" */
static void count(const struct ptq_progress *p, char *out, size_t size)
{
    if (p->total)
        snprintf(out, size, "%" PRId64 "/%" PRId64, p->done, p->total);
    else
        snprintf(out, size, "%" PRId64, p->done);
}

/* "elapsed 3:07, ETA 1:02": the units still to do take as long as the mean of those done. */
static void times(const struct ptq_progress *p, double elapsed_s, char *out, size_t size)
{
    char elapsed[32], eta[32];
    duration(elapsed_s, elapsed, sizeof elapsed);
    if (!p->done || p->done >= p->total) {
        snprintf(out, size, "elapsed %s", elapsed);
        return;
    }
    duration(elapsed_s / (double)p->done * (double)(p->total - p->done), eta, sizeof eta);
    snprintf(out, size, "elapsed %s, ETA %s", elapsed, eta);
}

static void rate(const struct ptq_progress *p, double elapsed_s, char *out, size_t size)
{
    double per_s = elapsed_s > 0 ? (double)p->done / elapsed_s : 0;
    if (per_s <= 0)
        *out = 0;
    else if (per_s >= 1)
        snprintf(out, size, " %.1f/s,", per_s);
    else
        snprintf(out, size, " %.1f s each,", 1 / per_s);
}

static int terminal_columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

/* Cuts to the columns of the terminal, between UTF-8 characters; a wrapped line could not be
 * redrawn. */
static void cut(char *line, int columns)
{
    int shown = 0;
    for (char *s = line; *s; s++)
        if (((unsigned char)*s & 0xC0) != 0x80 && ++shown >= columns) {
            *s = 0;
            return;
        }
}

static void draw(struct ptq_progress *p, int64_t now_ns)
{
    char line[LINE_BYTES], units[64], speed[32], clock[96];
    double elapsed_s = 1e-9 * (double)(now_ns - p->start_ns);
    count(p, units, sizeof units);
    rate(p, elapsed_s, speed, sizeof speed);
    times(p, elapsed_s, clock, sizeof clock);
    snprintf(line, sizeof line, "%s %s,%s %s, %" PRId64 " MiB  %s", p->title, units, speed, clock,
             ptq_peak_rss_bytes() >> 20, p->label);
    cut(line, terminal_columns());
    fprintf(stderr, "\r\033[K%s", line);
    fflush(stderr);
    p->drawn_ns = now_ns;
}

static void print_line(const struct ptq_progress *p, int64_t now_ns)
{
    char units[64], clock[96];
    count(p, units, sizeof units);
    times(p, 1e-9 * (double)(now_ns - p->start_ns), clock, sizeof clock);
    fprintf(stderr, "%s %s %s (%s)\n", p->title, units, p->label, clock);
}

/* A label is one line, and no terminal commands come through it: layer names are read from
 * files. */
static void set_label(struct ptq_progress *p, const char *label)
{
    snprintf(p->label, sizeof p->label, "%s", label);
    for (char *s = p->label; *s; s++)
        if ((unsigned char)*s < 32 || *s == 127)
            *s = '?';
}

static void show(struct ptq_progress *p, int64_t now_ns)
{
    if (!p->terminal)
        print_line(p, now_ns);
    else if (p->done == p->total || !p->drawn_ns || now_ns - p->drawn_ns >= REDRAW_NS)
        draw(p, now_ns);
}

void ptq_progress_step(struct ptq_progress *p, const char *label)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->done++;
    set_label(p, label);
    if (!p->quiet)
        show(p, ptq_now_ns());
    pthread_mutex_unlock(&p->lock);
}

void ptq_progress_note(struct ptq_progress *p, const char *fmt, ...)
{
    if (!p || p->quiet)
        return;
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&p->lock);
    if (p->drawn_ns)
        fputs("\r\033[K", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    if (p->drawn_ns)
        draw(p, ptq_now_ns());
    pthread_mutex_unlock(&p->lock);
    va_end(ap);
}

void ptq_progress_free(struct ptq_progress *p)
{
    if (!p)
        return;
    if (p->drawn_ns) {
        draw(p, ptq_now_ns());
        fputc('\n', stderr);
    }
    pthread_mutex_destroy(&p->lock);
    free(p);
}
