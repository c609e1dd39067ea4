# title: Proxies of perplexity against the loss that was measured
# data: proxy
# order: 30
# optional: yes
# alt: A panel a proxy, both axes log: across, the proxy; up, the added nats a token on the evaluation text; a point a quantized model, a colour a stratum of bits and group. Over each panel the mean rank correlation inside the strata. A good proxy rises within each colour, not only from colour to colour.
columns = n_panels < 4 ? n_panels : 4
rows = (n_panels + columns - 1) / columns
width = 1000
panel_height = 180.0
height = 130 + rows * panel_height
legend_right = 0
load style
set logscale xy
set xtics font ",8" offset 0,0.4
set offsets graph 0.05, graph 0.05, 0, 0
set format xy "%.0e"
set autoscale noextend
set mxtics 1
set mytics 1
unset key
stats data using (column("loss")) name "LOSS" nooutput
# Before the range is set, which would count here. Few decades hold one labelled tick, or none.
array LOW[n_panels]
array HIGH[n_panels]
do for [k = 1:n_panels] {
    stats data using (column("panel") == k ? column("value") : NaN) name "ACROSS" nooutput
    LOW[k] = log10(ACROSS_min)
    HIGH[k] = log10(ACROSS_max)
}
set yrange [LOSS_min / 1.5:LOSS_max * 1.5]
left = 92.0
step = (width - left - 14.0) / columns
unset title
set multiplot
set label 97 "across: the proxy, log scale; figure: mean rank correlation inside a stratum" at screen 0.5, screen 1 - 38.0 / height center font ",10"
set label 99 title at screen 0.5, screen 1 - 18.0 / height center
x = left
do for [i = 1:n_series] {
    set label 200 + i NAMES[i] at screen x / width, screen 18.0 / height left point pt shape(i) ps 0.8 lc rgb color(i) offset character 1.5, -0.2
    x = x + 34 + 7.2 * strlen(NAMES[i])
}
do for [k = 1:n_panels] {
    across = (k - 1) % columns
    down = (k - 1) / columns
    top = 82.0 + down * panel_height
    set lmargin at screen (left + across * step) / width
    set rmargin at screen (left + (across + 1) * step - 12.0) / width
    set tmargin at screen 1 - top / height
    set bmargin at screen 1 - (top + panel_height - 46.0) / height
    set label 98 PANELS[k] at graph 0, graph 1.07 left font ",10"
    if (across == 0) { set format y "%.0e"; set ylabel "added nats/token" } else { set format y ""; unset ylabel }
    set xtics autofreq
    if (HIGH[k] - LOW[k] < 1.6) {
        set xtics (1e-30)
        do for [e = floor(LOW[k]):ceil(HIGH[k])] { set xtics add (10.0 ** e, 3 * 10.0 ** e) }
    }
    plot for [i = 1:n_series] data using (column("panel") == k && column("series") == i ? column("value") : NaN):(column("loss")) \
        with points pt shape(i) ps 0.6 lc rgb color(i) notitle
    if (k == 1) {
        unset label 99
        unset label 97
        do for [i = 1:n_series] { unset label 200 + i }
    }
}
unset multiplot
