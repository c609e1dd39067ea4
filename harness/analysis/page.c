#include "analysis/page.h"
#include "analysis/page_methods.h"
#include "analysis/put.h"
#include "core/json.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LAYER_ROWS = 4000, MAX_RUN_ENTRIES = 400 };

const char *ptq_run_name(const struct ptq_tables *t)
{
    const char *dir = t->v->run_dir;
    size_t end = strlen(dir), start;
    while (end > 1 && dir[end - 1] == '/')
        end--;
    for (start = end; start > 0 && dir[start - 1] != '/';)
        start--;
    const char *name = ptq_arena_printf(t->arena, t->st, "%.*s", (int)(end - start), dir + start);
    return name ? name : "";
}

static const char *join_array(const struct ptq_tables *t, const json_t *array, const char *joint)
{
    const char *text = "";
    for (size_t i = 0; i < json_array_size(array) && i < 200 && text; i++) {
        json_t *one = json_pack("{s:O}", "v", json_array_get(array, i));
        text = ptq_arena_printf(t->arena, t->st, "%s%s%s", text, *text ? joint : "",
                                ptq_field_text(one, "v", t->arena, t->st));
        text = text ? ptq_arena_strdup(t->arena, t->st, text) : NULL;
        json_decref(one);
    }
    return text ? text : "";
}

const char *ptq_run_command(const struct ptq_tables *t)
{
    static const char *const lists[] = {"command", "argv"};
    for (int i = 0; i < 2; i++) {
        const json_t *v = json_object_get(t->v->run, lists[i]);
        if (json_is_array(v))
            return join_array(t, v, " ");
        const char *text = ptq_run_text(t->v, lists[i], t->arena, t->st);
        if (*text)
            return text;
    }
    const char *file = ptq_run_text(t->v, "config_file", t->arena, t->st);
    const char *text =
        *file ? ptq_arena_printf(t->arena, t->st, "ptq sweep %s", file)
              : ptq_arena_printf(t->arena, t->st, "ptq sweep configs/%s.ini", ptq_run_name(t));
    return text ? text : "";
}

/* ---- HTML ---- */

static const char css[] =
    ":root{color-scheme:light "
    "dark;--fg:#1f2328;--bg:#ffffff;--soft:#59636e;--line:#d1d9e0;--band:#f6f8fa;--good:#1a7f37;--"
    "bad:#cf222e}\n"
    "@media "
    "(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--soft:#9198a1;--line:#3d444d;--"
    "band:#151b23;--good:#3fb950;"
    "--bad:#f85149}}\n"
    "body{font:15px/1.5 "
    "system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1420px;margin:0 "
    "auto;padding:1.5rem}\n"
    "h1{margin:0 0 .2rem;font-size:1.7rem}h2{margin:2.2rem 0 "
    ".6rem;font-size:1.25rem;border-bottom:1px solid var(--line)}\n"
    "h3{margin:1.4rem 0 .4rem;font-size:1.05rem}\n"
    ".verdict{font-weight:600;margin:.3rem 0 "
    "1rem}.valid{color:var(--good)}.invalid{color:var(--bad)}\n"
    ".scroll{overflow:auto;max-height:92vh}\n"
    "table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:.2rem .4rem;text-align:left;border-bottom:1px solid "
    "var(--line);white-space:nowrap}\n"
    "thead "
    "th{position:sticky;top:0;background:var(--band);vertical-align:bottom;line-height:1.25}\n"
    ".scroll tr>:first-child{position:sticky;left:0;background:var(--bg)}\n"
    ".scroll thead tr>:first-child{background:var(--band);z-index:1}\n"
    "tbody tr:hover,tbody tr:hover>:first-child{background:var(--band)}.n{text-align:right}\n"
    ".wrap td{white-space:normal}\n"
    ".sortable th{cursor:pointer}.sortable th[aria-sort]::after{content:' \\25B4'}"
    ".sortable th[aria-sort=descending]::after{content:' \\25BE'}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem "
    "1rem;font-size:.9rem;margin:.8rem 0}\n"
    "dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}\n"
    "figure{margin:1rem 0 1.6rem;overflow-x:auto}figure "
    "svg{width:100%;min-width:680px;max-width:1080px;height:auto;display:block}\n"
    ".ptq-plot{color:var(--fg)!important}\n"
    "figcaption,.soft{color:var(--soft);font-size:.88rem}\n"
    "code,pre{font-family:ui-monospace,monospace;font-size:.86rem}pre{background:var(--band);"
    "padding:.7rem;overflow:auto}\n"
    "summary{cursor:pointer}nav a{margin-right:.9rem;white-space:nowrap}a{color:inherit}\n"
    "@media print{.scroll{max-height:none}}\n";

/* Sorting only: the page is whole without it. */
static const char js[] =
    "document.querySelectorAll('table.sortable').forEach(function(t){\n"
    "  t.querySelectorAll('th').forEach(function(h,i){h.tabIndex=0;\n"
    "    function go(){var "
    "up=h.getAttribute('aria-sort')!=='ascending',b=t.tBodies[0],r=Array.from(b.rows);\n"
    "      t.querySelectorAll('th').forEach(function(x){x.removeAttribute('aria-sort')});\n"
    "      h.setAttribute('aria-sort',up?'ascending':'descending');\n"
    "      r.sort(function(a,c){var "
    "p=a.cells[i].textContent,q=c.cells[i].textContent,x=parseFloat(p),y=parseFloat(q),d;\n"
    "        if(isNaN(x)||isNaN(y))d=isNaN(x)-isNaN(y)||(p<q?-1:p>q?1:0);else d=x-y;return "
    "up?d:-d});\n"
    "      r.forEach(function(x){b.appendChild(x)})}\n"
    "    "
    "h.addEventListener('click',go);h.addEventListener('keydown',function(e){if(e.key==='Enter')go("
    ")})})});\n";

static void put_facts(const struct ptq_tables *t, const struct ptq_board *d, FILE *f)
{
    struct ptq_fact facts[PTQ_MAX_FACTS];
    int n = ptq_board_facts(t, d, facts);
    fputs("<dl>\n", f);
    for (int i = 0; i < n; i++) {
        fputs("<dt>", f);
        ptq_put_html(f, facts[i].name);
        fputs("</dt><dd>", f);
        ptq_put_html(f, facts[i].text);
        fputs("</dd>\n", f);
    }
    fputs("</dl>\n", f);
}

static void put_head(const struct ptq_tables *t, FILE *f)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
          "'unsafe-inline'; script-src "
          "'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width, "
          "initial-scale=1\">\n<title>",
          f);
    ptq_put_html(f, ptq_run_name(t));
    fputs(" - quantization report</title>\n<style>\n", f);
    fputs(css, f);
    fputs("</style>\n</head>\n<body>\n<h1>", f);
    ptq_put_html(f, ptq_run_name(t));
    fprintf(f, "</h1>\n<p class=\"verdict %s\">", t->v->faults.n ? "invalid" : "valid");
    ptq_put_html(f, ptq_verdict(t));
    fputs("</p>\n", f);
}

void ptq_page_link(FILE *nav, const char *id, const char *name)
{
    fprintf(nav, "<a href=\"#%s\">%s</a>\n", id, name);
}

static void put_board_title(const struct ptq_board *d, FILE *f)
{
    fputs("<h3>", f);
    ptq_put_html(f, d->model);
    if (*d->protocol) {
        fputs(", protocol ", f);
        ptq_put_html(f, d->protocol);
    }
    fputs("</h3>\n", f);
}

static int put_results(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    fputs("<h2 id=\"results\">Results</h2>\n", f);
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        struct ptq_sheet s;
        char id[32];
        int code = ptq_table_main(t, &t->v->boards[k], true, &s);
        if (code)
            return code;
        put_board_title(&t->v->boards[k], f);
        snprintf(id, sizeof id, "main-%" PRId64, k + 1);
        ptq_sheet_html(&s, f, id, true);
        put_facts(t, &t->v->boards[k], f);
    }
    return PTQ_OK;
}

static void put_picture(const struct ptq_picture *p, FILE *f)
{
    struct ptq_status quiet = {0};
    char *svg = NULL;
    size_t bytes;
    if (p->file && ptq_read_file(p->file, 64u << 20, &svg, &bytes, &quiet) == PTQ_OK) {
        fprintf(f, "<figure id=\"%s-%" PRId64 "\">\n", p->plot->name, p->board + 1);
        ptq_svg_inline(svg, f);
        fputs("<figcaption>", f);
        ptq_put_html(f, *p->plot->alt ? p->plot->alt : p->plot->title);
        fputs("</figcaption>\n</figure>\n", f);
    } else {
        fputs("<p class=\"soft\">", f);
        ptq_put_html(f, p->plot->title);
        fputs(": ", f);
        ptq_put_html(f, *quiet.text ? quiet.text : p->reason);
        fputs("</p>\n", f);
    }
    free(svg);
}

static int put_pictures(const struct ptq_page *g, FILE *f)
{
    fputs("<h2 id=\"pictures\">Pictures</h2>\n", f);
    if (!g->n_pictures) {
        fputs("<p class=\"soft\">No pictures: ", f);
        ptq_put_html(f, g->no_pictures ? g->no_pictures : "not asked for");
        fputs("</p>\n", f);
    }
    for (int64_t i = 0; i < g->n_pictures; i++) {
        if (g->t->v->n_boards > 1 && (i == 0 || g->pictures[i].board != g->pictures[i - 1].board))
            put_board_title(&g->t->v->boards[g->pictures[i].board], f);
        put_picture(&g->pictures[i], f);
    }
    return PTQ_OK;
}

static int put_front(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    fputs("<h2 id=\"front\">Pareto front</h2>\n<p class=\"soft\">Settings that no other beats in "
          "both stored bits and loss "
          "(means over calibration seeds).</p>\n",
          f);
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        struct ptq_sheet s;
        char id[32];
        int code = ptq_table_front(t, &t->v->boards[k], &s);
        if (code)
            return code;
        if (t->v->boards[k].unranked_note) {
            fputs("<p>", f);
            ptq_put_html(f, t->v->boards[k].unranked_note);
            fputs("</p>\n", f);
        }
        snprintf(id, sizeof id, "front-%" PRId64, k + 1);
        ptq_sheet_html(&s, f, id, true);
        if (!t->v->boards[k].many_seeds)
            continue;
        code = ptq_table_spread(t, &t->v->boards[k], &s);
        if (code)
            return code;
        fprintf(f, "<h3>Spread of %s over calibration seeds</h3>\n", t->v->boards[k].loss_id);
        snprintf(id, sizeof id, "spread-%" PRId64, k + 1);
        ptq_sheet_html(&s, f, id, true);
    }
    return PTQ_OK;
}

static int put_bad(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    struct ptq_sheet s;
    int code = ptq_table_bad(t, &s);
    if (code)
        return code;
    fprintf(f,
            "<h2 id=\"cells\">Skipped and failed cells</h2>\n<p class=\"soft\">%" PRId64
            " skipped, %" PRId64 " failed.</p>\n",
            t->v->n_skipped, t->v->n_failed);
    if (s.n_rows)
        fputs("<div class=\"wrap\">\n", f), ptq_sheet_html(&s, f, "bad-table", true),
            fputs("</div>\n", f);
    return PTQ_OK;
}

static int put_layers(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    struct ptq_sheet s;
    int code = ptq_table_layers(t, false, MAX_LAYER_ROWS, &s);
    if (code)
        return code;
    fputs("<h2 id=\"layers\">Layers</h2>\n", f);
    fprintf(f,
            "<details><summary>%" PRId64 " of %" PRId64
            " finished layer cells (all: tables/layers.csv)</summary>\n",
            s.n_rows, t->v->n_layers);
    ptq_sheet_html(&s, f, "layer-table", true);
    fputs("</details>\n", f);
    return PTQ_OK;
}

static const char about_inputs[] =
    "Of the Hessian that the layers are scored under, once for every distinct input. Condition: "
    "largest over smallest eigenvalue of H + 0.01 mean(diag H) over the live inputs (estimate). "
    "Effective rank: (tr H)^2 / tr(H^2). Clipped codes: of the cells whose method notes them; what "
    "a "
    "code was to hold lay outside its grid. Damping, retries, clipped codes and scales at an end "
    "of "
    "their format: over all cells of these layers.";
static const char about_crossloss[] =
    "Each method's weights under every objective, relative to rtn's of the same bits and group "
    "(the "
    "first, where there are several): geometric mean over layers of the ratio of losses. "
    "* smallest of its column in that block, among those that store no more than 5 % above rtn; "
    "~ not told apart from it (95 % interval of the mean "
    "log ratio, paired over layers). A method that is best only under the statistics it was given "
    "has "
    "fitted those.";

static int put_health(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    struct ptq_sheet s;
    int code = ptq_table_health(t, &s);
    if (code)
        return code;
    fputs("<h2 id=\"health\">Numerical health</h2>\n", f);
    struct ptq_sheet inputs;
    code = ptq_table_inputs(t, false, &inputs);
    if (code)
        return code;
    if (inputs.n_rows) {
        fprintf(f, "<h3>Inputs</h3>\n<p class=\"soft\">%s</p>\n", about_inputs);
        ptq_sheet_html(&inputs, f, "input-table", true);
    }
    fputs("<h3>Methods</h3>\n<p class=\"soft\">What the methods noted while they ran, over all "
          "layer cells: damping used, retries, dead inputs.</p>\n",
          f);
    ptq_sheet_html(&s, f, "health-table", false);
    return PTQ_OK;
}

static int put_crossloss(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    bool any = false;
    for (int64_t k = 0; k < t->v->n_boards; k++) {
        struct ptq_sheet s;
        char id[32];
        int code = ptq_first_of_model(t->v, k) ? ptq_table_crossloss(t, &t->v->boards[k], &s) : 1;
        if (code < 0)
            return code;
        if (code || !s.n_rows)
            continue;
        if (!any)
            fprintf(f,
                    "<h2 id=\"crossloss\">Losses under every objective</h2>\n<p "
                    "class=\"soft\">%s</p>\n",
                    about_crossloss);
        any = true;
        snprintf(id, sizeof id, "crossloss-%" PRId64, k + 1);
        fprintf(f, "<h3>");
        ptq_put_html(f, t->v->boards[k].model);
        fprintf(f, "</h3>\n");
        ptq_sheet_html(&s, f, id, true);
    }
    if (!any)
        fputs("<h2 id=\"crossloss\">Losses under every objective</h2>\n<p class=\"soft\">No rtn of "
              "the same bits and group beside another method: nothing to compare with.</p>\n",
              f);
    return PTQ_OK;
}

static int put_definitions(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    struct ptq_sheet s;
    int code = ptq_table_definitions(t, &s);
    if (code)
        return code;
    fputs("<h2 id=\"definitions\">Definitions</h2>\n<div class=\"wrap\">\n", f);
    ptq_sheet_html(&s, f, "definition-table", false);
    fputs("</div>\n", f);
    return PTQ_OK;
}

static void put_run_entry(const struct ptq_tables *t, const char *path, const json_t *owner,
                          const char *key, FILE *f)
{
    const json_t *v = json_object_get(owner, key);
    const char *text =
        json_is_array(v) ? join_array(t, v, ", ") : ptq_field_text(owner, key, t->arena, t->st);
    bool long_text = strchr(text, '\n') != NULL;
    fputs("<dt>", f);
    ptq_put_html(f, path);
    fputs(long_text ? "</dt><dd><pre>" : "</dt><dd>", f);
    for (const char *s = text; long_text && *s; s += strcspn(s, "\n"), s += *s == '\n') {
        char *line = strndup(s, strcspn(s, "\n"));
        ptq_put_html(f, line);
        fputc('\n', f);
        free(line);
    }
    if (!long_text)
        ptq_put_html(f, text);
    fputs(long_text ? "</pre></dd>\n" : "</dd>\n", f);
}

static void put_run(const struct ptq_tables *t, const char *prefix, const json_t *object, int depth,
                    int *n, FILE *f)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, key, v)
    {
        char *path = ptq_arena_printf(t->arena, t->st, "%s%s%s", prefix, *prefix ? "." : "", key);
        if (!path || ++*n > MAX_RUN_ENTRIES)
            return;
        if (json_is_object(v) && depth < 5)
            put_run(t, path, v, depth + 1, n, f);
        else
            put_run_entry(t, path, object, key, f);
    }
}

static int put_how(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    int n = 0;
    const char *commit = ptq_run_text(t->v, "commit", t->arena, t->st);
    fputs("<h2 id=\"run\">What was run</h2>\n<p>To make it again", f);
    if (*commit) {
        fputs(" (commit <code>", f);
        ptq_put_html(f, commit);
        fputs("</code>)", f);
    }
    fputs(":</p>\n<pre>", f);
    ptq_put_html(f, ptq_run_command(t));
    fputs("\n</pre>\n<p>Every row: <code>cells*.jsonl</code>; tables: <code>tables/</code>; data "
          "of the pictures: "
          "<code>plots/*.tsv</code>.</p>\n<dl>\n",
          f);
    put_run(t, "", t->v->run, 0, &n, f);
    fputs("</dl>\n", f);
    return PTQ_OK;
}

struct section {
    const char *id, *name;
    int (*put)(const struct ptq_page *, FILE *);
};
static const struct section first[] = {
    {"results", "results", put_results},
    {"pictures", "pictures", put_pictures},
    {"front", "Pareto front", put_front},
};
static const struct section last[] = {
    {"crossloss", "objectives", put_crossloss},
    {"cells", "not run", put_bad},
    {"layers", "layers", put_layers},
    {"health", "numerical health", put_health},
    {"definitions", "definitions", put_definitions},
    {"run", "run", put_how},
};

static int put_sections(const struct ptq_page *g, const struct section *at, size_t n, FILE *f,
                        FILE *nav)
{
    int code = PTQ_OK;
    for (size_t i = 0; i < n && !code; i++) {
        ptq_page_link(nav, at[i].id, at[i].name);
        code = at[i].put(g, f);
    }
    return code;
}

static int put_body(const struct ptq_page *g, FILE *f, FILE *nav)
{
    int code = put_sections(g, first, sizeof first / sizeof *first, f, nav);
    code = code ? code : ptq_page_methods_html(g->t, f, nav);
    return code ? code : put_sections(g, last, sizeof last / sizeof *last, f, nav);
}

/* The body first: only then is it known which sections have something to say. */
int ptq_page_html(const struct ptq_page *g, FILE *f)
{
    struct ptq_buffer body = {0}, nav = {0};
    int code = ptq_buffer_open(&body, g->t->st);
    code = code ? code : ptq_buffer_open(&nav, g->t->st);
    code = code ? code : put_body(g, body.f, nav.f);
    for (int i = 0; i < 2; i++) {
        struct ptq_buffer *b = i ? &nav : &body;
        int closed = b->f ? ptq_buffer_close(b, g->t->st) : code;
        code = code ? code : closed;
    }
    if (!code) {
        put_head(g->t, f);
        fprintf(f, "<nav>\n%s</nav>\n%s<script>\n%s</script>\n</body>\n</html>\n", nav.text,
                body.text, js);
    }
    free(body.text);
    free(nav.text);
    return code;
}

/* ---- Markdown ---- */

static int put_md_board(const struct ptq_tables *t, const struct ptq_board *d, FILE *f)
{
    struct ptq_sheet s;
    struct ptq_fact facts[PTQ_MAX_FACTS];
    int n = ptq_board_facts(t, d, facts), code = ptq_table_main(t, d, true, &s);
    if (code)
        return code;
    fputs("\n## ", f);
    ptq_put_md(f, d->model);
    fputs(*d->protocol ? ", protocol " : "", f);
    ptq_put_md(f, d->protocol);
    fputs("\n\n", f);
    ptq_sheet_md(&s, f);
    fputc('\n', f);
    for (int i = 0; i < n; i++) {
        fprintf(f, "- %s: ", facts[i].name);
        ptq_put_md(f, facts[i].text);
        fputc('\n', f);
    }
    return PTQ_OK;
}

static int put_md_sheet(const char *title,
                        int (*make)(const struct ptq_tables *, struct ptq_sheet *),
                        const struct ptq_tables *t, FILE *f)
{
    struct ptq_sheet s;
    int code = make(t, &s);
    if (code || !s.n_rows)
        return code;
    fprintf(f, "\n## %s\n\n", title);
    ptq_sheet_md(&s, f);
    return PTQ_OK;
}

static int put_md_crossloss(const struct ptq_tables *t, int64_t board, FILE *f)
{
    struct ptq_sheet s;
    if (!ptq_first_of_model(t->v, board))
        return PTQ_OK;
    int code = ptq_table_crossloss(t, &t->v->boards[board], &s);
    if (code || !s.n_rows)
        return code;
    fputs("\n## Losses under every objective: ", f);
    ptq_put_md(f, t->v->boards[board].model);
    fputs("\n\n", f);
    ptq_put_md(f, about_crossloss);
    fputs("\n\n", f);
    ptq_sheet_md(&s, f);
    return PTQ_OK;
}

static int put_md_inputs(const struct ptq_tables *t, FILE *f)
{
    struct ptq_sheet s;
    int code = ptq_table_inputs(t, false, &s);
    if (code || !s.n_rows)
        return code;
    fputs("\n## Numerical health: inputs\n\n", f);
    ptq_put_md(f, about_inputs);
    fputs("\n\n", f);
    ptq_sheet_md(&s, f);
    return PTQ_OK;
}

int ptq_page_md(const struct ptq_page *g, FILE *f)
{
    const struct ptq_tables *t = g->t;
    int code = PTQ_OK;
    fputs("# ", f);
    ptq_put_md(f, ptq_run_name(t));
    fputs("\n\n", f);
    ptq_put_md(f, ptq_verdict(t));
    fputc('\n', f);
    for (int64_t k = 0; k < t->v->n_boards && !code; k++)
        code = put_md_board(t, &t->v->boards[k], f);
    for (int64_t i = 0; i < g->n_pictures; i++) {
        const struct ptq_picture *p = &g->pictures[i];
        const char *name = p->file ? strrchr(p->file, '/') + 1 : NULL;
        if (name)
            fprintf(f, "\n![%s](plots/%s)\n", p->plot->title, name);
        else
            fprintf(f, "\n%s: %s\n", p->plot->title, p->reason);
    }
    code = code ? code : put_md_sheet("Skipped and failed cells", ptq_table_bad, t, f);
    code = code ? code : ptq_page_methods_md(t, f);
    for (int64_t k = 0; k < t->v->n_boards && !code; k++)
        code = put_md_crossloss(t, k, f);
    code = code ? code : put_md_inputs(t, f);
    code = code ? code : put_md_sheet("Numerical health: methods", ptq_table_health, t, f);
    code = code ? code : put_md_sheet("Definitions", ptq_table_definitions, t, f);
    fputs("\n## To make it again\n\n```\n", f);
    ptq_put_text(f, ptq_run_command(t));
    fputs("\n```\n", f);
    return code;
}
