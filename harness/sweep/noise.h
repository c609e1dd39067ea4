/* noise.h: how much of a layer's held-out error is chance, without another forward pass. A row of a
 * layer then has an object `noise` that holds every replicate, so that reports need no rerun:
 *
 * - error: out_relerr_heldout, e = tr(dW H dW^T) / tr(W H W^T), H of the held-out text
 * - less_one [K]: e under H less one of its K shards. Scoring noise: the delete-one jackknife of
 *   log e (a ratio of two sums over the shards), which is also the row's interval of
 *   out_relerr_heldout, t with K - 1 degrees of freedom.
 * - resampled [R]: e of the form that the method makes from half of the calibration shards, in
 *   complementary pairs. Calibration noise. Codes are a discontinuous function of H, for which the
 *   delete-one jackknife is inconsistent and delete-half is not (J. Shao, C. F. J. Wu, "A general
 *   theory for jackknife variance estimation", Ann. Statist. 17, 1989); the halves are rows of a
 *   Hadamard matrix, balanced as in P. J. McCarthy, "Pseudo-replication: half samples", Rev. Int.
 *   Stat. Inst. 37, 1969, but over shards without strata, and with every complement, so that each
 *   shard is in half of the halves and what is linear in H moves no mean.
 *   Over all 2 (K - 1) halves the mean square of a linear function about its value at the whole is
 *   exactly its variance over texts of the WHOLE length: the factor (n - d) / d of the delete-d
 *   jackknife is 1 at d = n / 2. What is quadratic in the error of H (the loss at its minimum is)
 *   moves more over half the tokens, by up to the root of 3: an upper estimate.
 *   Their mean log less log e: what half the calibration tokens cost.
 * - perturbed [P]: e of the form made from H o (1 + eps G), G symmetric of unit normals: arithmetic
 *   noise, the amplification of rounding.
 * - constant: true where the method sees no statistics: e stands in both arrays.
 * - absent: why the two are not there. fixed: what was not resampled.
 *
 * Halves and G are those of the draw and the layer's input, the same for every method: differences
 * of two methods are taken replicate by replicate. */
#ifndef PTQ_SWEEP_NOISE_H
#define PTQ_SWEEP_NOISE_H
#include "metrics/metric.h"
#include "model/stats.h"
#include "quant/run.h"
#include "sweep/sweep.h"
#include <jansson.h>

/* The settings of [calib] shards and [noise] that do not fit each other. */
int ptq_noise_check(const struct ptq_config *, struct ptq_status *);

/* Whether shard k is in half-sample r. K: a power of two; r < 2 (K - 1). r and r ^ 1 complement
 * each other. */
bool ptq_in_half(int64_t r, int64_t k);
/* H of a half-sample, in the unit of the whole (d x d, symmetric), and the tokens behind it. */
void ptq_half_hess(const struct ptq_input_stats *, int64_t r, struct ptq_pool *, double *hess,
                   double *n_tokens);
/* H o (1 + eps G); G is a function of the seed alone. */
void ptq_perturb_hess(const struct ptq_cdmat *h, double eps, uint64_t seed, struct ptq_pool *,
                      double *hess);
/* tr(A S_k A^T) of every shard k into out[n_shards]; A (rows x d_in). */
int ptq_shard_quads(const struct ptq_input_stats *, const float *a, int64_t rows, double *out,
                    struct ptq_status *);
/* The ratio of the sums of top and bottom over the others of n, into less_one[n]. */
void ptq_less_one(const double *top, const double *bottom, int64_t n, double *less_one);
#endif
