/* num.h: elementary functions with one result on every CPU (glibc's differ with and without FMA),
 * built with contraction off from correctly rounded operations. Accuracy: about 1 ulp (fp64),
 * checked against glibc and GSL in tests. */
#ifndef PTQ_CORE_NUM_H
#define PTQ_CORE_NUM_H
#include <stdint.h>

double ptq_exp(double x);
/* y_i = exp(x_i) over n values, vectorised, same bits as ptq_exp; may be in place. */
void ptq_exp_n(const double *x, double *y, int64_t n);
double ptq_log(double x);
double ptq_pow(double x, double y); /* x >= 0; NaN below */
/* out_i = pow(x_i, y) over n values, vectorised, same bits as ptq_pow; x and out do not overlap. */
void ptq_pow_n(const double *x, double y, double *out, int64_t n);
void ptq_sincos(double x, double *s, double *c); /* |x| < 1e9 */
float ptq_expf(float x);                         /* in fp32, within 1 ulp; for softmax and SiLU */
/* y_i = exp(x_i - shift) over n values, vectorised, same bits as ptq_expf; may be in place. */
void ptq_expf_n(const float *x, float shift, float *y, int64_t n);
#endif
