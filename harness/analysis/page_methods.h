/* page_methods.h: the part of a report that compares methods: equal bits, codebooks, wins, noise,
 * errors block by block, proxies. */
#ifndef PTQ_ANALYSIS_PAGE_METHODS_H
#define PTQ_ANALYSIS_PAGE_METHODS_H
#include "analysis/tables.h"

/* A link to a section of the page, named in the list at its top (page.c). */
void ptq_page_link(FILE *links, const char *id, const char *name);

/* Sections that have nothing to say are left out, also of the links. */
int ptq_page_methods_html(const struct ptq_tables *, FILE *, FILE *links);
int ptq_page_methods_md(const struct ptq_tables *, FILE *);
/* The section about proxies alone. */
int ptq_page_proxies_md(const struct ptq_tables *, FILE *);
#endif
