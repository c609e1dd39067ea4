#include "testlib.h"
#include "core/progress.h"
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>

static int real_stderr;

/* From here to release() stderr goes to fd. */
static void capture(int fd)
{
    fflush(stderr);
    real_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
}

static void release(void)
{
    fflush(stderr);
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
}

static int temporary_file(void)
{
    char folder[TEST_PATH], path[TEST_PATH];
    test_tmpdir(folder);
    test_path(folder, "out", path);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    test_rmdir(folder); /* the open file stays readable */
    return fd;
}

static void read_back(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);
    assert_true(n >= 0);
    out[n] = 0;
    close(fd);
}

static int lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

static void a_line_a_step_in_a_file(void **state)
{
    (void)state;
    char text[4096];
    int fd = temporary_file();
    capture(fd);
    struct ptq_progress *p = ptq_progress_new("sweep", 3, false);
    ptq_progress_step(p, "rtn b2: ppl 9.1");
    ptq_progress_note(p, "cell %d failed", 7);
    ptq_progress_step(p, "gptq\nb3\033[2J");
    ptq_progress_step(p, "gptq b4");
    ptq_progress_free(p);
    release();
    read_back(fd, text, sizeof text);
    assert_int_equal(lines(text), 4);
    assert_ptr_equal(
        strstr(text, "sweep 1/3 rtn b2: ppl 9.1 (elapsed 0.0 s, ETA 0.0 s)\ncell 7 failed\n"),
        text);
    assert_non_null(strstr(text, "\nsweep 2/3 gptq?b3?[2J (elapsed "));
    assert_non_null(
        strstr(text, "\nsweep 3/3 gptq b4 (elapsed 0.0 s)\n")); /* nothing left: no ETA */
    assert_null(strchr(text, '\033'));
}

static void quiet_is_silent(void **state)
{
    (void)state;
    char text[64];
    int fd = temporary_file();
    capture(fd);
    struct ptq_progress *p = ptq_progress_new("sweep", 1, true);
    ptq_progress_note(p, "note");
    ptq_progress_step(p, "step");
    ptq_progress_free(p);
    ptq_progress_step(NULL, "x"); /* what new gives without memory */
    ptq_progress_note(NULL, "x");
    ptq_progress_free(NULL);
    release();
    read_back(fd, text, sizeof text);
    assert_string_equal(text, "");
}

/* The ETA of 1 of 3 units after t seconds is 2 t. */
static void the_eta_counts_what_is_left(void **state)
{
    (void)state;
    char text[256];
    double elapsed, eta;
    int fd = temporary_file();
    capture(fd);
    struct ptq_progress *p = ptq_progress_new("sweep", 3, false);
    usleep(400000);
    ptq_progress_step(p, "x");
    ptq_progress_free(p);
    release();
    read_back(fd, text, sizeof text);
    assert_int_equal(sscanf(text, "sweep 1/3 x (elapsed %lf s, ETA %lf s)", &elapsed, &eta), 2);
    assert_true(elapsed >= .4);
    assert_true(fabs(eta - 2 * elapsed) <= .16); /* both printed to .1 */
}

/* On a terminal of 40 columns one line is redrawn and never wraps. */
static void one_line_on_a_terminal(void **state)
{
    (void)state;
    char text[4096];
    int master, slave;
    struct winsize window = {.ws_row = 24, .ws_col = 40};
    if (openpty(&master, &slave, NULL, NULL, &window)) {
        printf("SKIP one_line_on_a_terminal: no pseudo terminal here\n");
        skip();
    }
    capture(slave);
    struct ptq_progress *p = ptq_progress_new("sweep", 2, false);
    ptq_progress_step(p, "a label that is far too long for forty columns");
    ptq_progress_note(p, "note");
    ptq_progress_step(p, "last");
    ptq_progress_free(p);
    release();
    ssize_t n = read(master, text, sizeof text - 1);
    assert_true(n > 0);
    text[n] = 0;
    close(slave);
    close(master);
    assert_int_equal(lines(text), 2); /* the note's and the end's */
    assert_non_null(strstr(text, "\r\033[Knote\r\n\r\033[Ksweep 1/2, "));
    assert_non_null(strstr(text, "\033[Ksweep 2/2, "));
    for (char *s = strstr(text, "\033[K"); s; s = strstr(s, "\033[K")) {
        s += 3;
        assert_true(strcspn(s, "\r\n\033") < 40);
    }
}

static void *many_steps(void *p)
{
    for (int i = 0; i < 500; i++)
        ptq_progress_step(p, "unit");
    return NULL;
}

static void steps_from_several_threads(void **state)
{
    (void)state;
    static char text[200000];
    pthread_t thread[4];
    int fd = temporary_file();
    capture(fd);
    struct ptq_progress *p = ptq_progress_new("sweep", 2000, false);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, many_steps, p);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    ptq_progress_free(p);
    release();
    read_back(fd, text, sizeof text);
    assert_int_equal(lines(text), 2000);
    int want = 0;
    for (char *s = text; *s; s = strchr(s, '\n') + 1) { /* whole lines, in order */
        char head[32];
        snprintf(head, sizeof head, "sweep %d/2000 unit (", ++want);
        assert_int_equal(strncmp(s, head, strlen(head)), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_a_step_in_a_file),     cmocka_unit_test(quiet_is_silent),
        cmocka_unit_test(the_eta_counts_what_is_left), cmocka_unit_test(one_line_on_a_terminal),
        cmocka_unit_test(steps_from_several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
