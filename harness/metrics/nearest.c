#include "metrics/nearest.h"
#include <math.h>

struct search {
    const struct ptq_nearest *at;
    double e[PTQ_NEAREST_MOST]; /* v - w of the coordinates that are set */
    double best;
    int64_t nodes;
};

/* sum over the coordinates that are set, without the own term: R_jk e_k for k > j */
static double drift(const struct search *s, int j)
{
    double sum = 0;
    for (int k = j + 1; k < s->at->n; k++)
        sum += s->at->chol[j * s->at->n + k] * s->e[k];
    return sum;
}

static bool descend(struct search *s, int j, double loss);

/* One code of coordinate j; `beyond` tells that it, and so all farther ones on its side, cannot
 * win. */
static bool visit(struct search *s, int j, double loss, double carried, int code, bool *beyond)
{
    const struct ptq_nearest *a = s->at;
    s->e[j] = a->scale[j] * (code - a->zero[j]) - a->w[j];
    const double term = carried + a->chol[j * a->n + j] * s->e[j], sum = loss + term * term;
    *beyond = sum >= s->best;
    if (*beyond)
        return true;
    if (j > 0)
        return descend(s, j - 1, sum);
    s->best = sum;
    return true;
}

static int clamp(double code, int most)
{
    return code < 0 ? 0 : code > most ? most : (int)code;
}

/* Codes on both sides of the coordinate's free minimum, the nearer one first. */
static bool descend(struct search *s, int j, double loss)
{
    const struct ptq_nearest *a = s->at;
    if (++s->nodes > a->most_nodes)
        return false;
    const double carried = drift(s, j), r = a->chol[j * a->n + j];
    const double centre = (a->w[j] - carried / r) / a->scale[j] + a->zero[j];
    int up = clamp(floor(centre) + 1, a->n_codes), down = up - 1;
    while (up < a->n_codes || down >= 0) {
        const bool goes_up = down < 0 || (up < a->n_codes && up - centre < centre - down);
        bool beyond;
        if (!visit(s, j, loss, carried, goes_up ? up++ : down--, &beyond))
            return false;
        if (beyond && goes_up)
            up = a->n_codes;
        else if (beyond)
            down = -1;
    }
    return true;
}

bool ptq_nearest_loss(const struct ptq_nearest *a, double *loss)
{
    struct search s = {.at = a, .best = a->bound};
    bool done = descend(&s, a->n - 1, 0);
    *loss = s.best;
    return done;
}
