# title: Perplexity against stored bits
# data: model
# order: 20
# needs: bits_stored ppl
# alt: Perplexity of every setting against the bits it stores per quantized weight; all settings on the left (log scale), those within 3 % of full precision on the right. Bars: 95 % interval of the paired difference to full precision; level line: full precision.
width = 900
height = 460
legend_right = 1
legend_note = full_ppl > 0 ? sprintf("dashed: full precision %.5g", full_ppl) : ""
load style
stats data using (column("ppl")) name "PPL" nooutput
stats data using (column("bits_stored")) name "BITS" nooutput
least = full_ppl > 0 && full_ppl < PPL_min ? full_ppl : PPL_min
most = full_ppl > PPL_max ? full_ppl : PPL_max
near = (full_ppl > 0 ? full_ppl : least) * 1.03
set multiplot
set label 1 title at screen 450.0 / width, screen 0.965 center
unset title
set bmargin at screen 0.15
set tmargin at screen 0.90
set xlabel "bits_stored, bits per quantized weight"
set xrange [BITS_min - 0.3:BITS_max + 0.3]

set lmargin at screen 70.0 / width
set rmargin at screen 430.0 / width
set ylabel "ppl: perplexity per token"
set logscale y
# A log axis over less than a decade has no powers of ten to label; over more than two there is no room for others.
if (most < 100 * least) {
    set for [k = 0:5] ytics add (1 * 10**k, 1.2 * 10**k, 1.5 * 10**k, 2 * 10**k, 2.5 * 10**k, 3 * 10**k, 4 * 10**k, 5 * 10**k, 6 * 10**k, 8 * 10**k)
}
set format y "%g"
set yrange [least * 0.97:most * 1.1]
plot full_ppl > 0 ? full_ppl : NaN with lines lw 1.5 dt 2 lc rgb "black" notitle, \
    for [i = 1:n_series] data using (column("series") == i ? column("bits_stored") : NaN):(column("ppl")) \
        with lines lw 0.8 dt dash(i) lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i ? column("bits_stored") : NaN):(column("ppl")):(column("ppl_lo")):(column("ppl_hi")) \
        with yerrorbars pt 0 lw 1 lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i ? column("bits_stored") : NaN):(column("ppl")) \
        with points pt shape(i) ps 0.7 lc rgb color(i) notitle, \
    for [k = 1:(n_unranked > 0)] "" using (column("unranked") == 1 ? column("bits_stored") : NaN):(column("ppl")) \
        with points pt 2 ps 1.2 lw 1.2 lc rgb "black" notitle

set lmargin at screen 520.0 / width
set rmargin at screen 890.0 / width
unset label 1
unset logscale y
unset ylabel
set ytics auto
set format y "%.5g"
unset key
set yrange [least - (near - least) * 0.06:near]
plot full_ppl > 0 ? full_ppl : NaN with lines lw 1.5 dt 2 lc rgb "black" notitle, \
    for [i = 1:n_series] data using (column("series") == i ? column("bits_stored") : NaN):(column("ppl")) \
        with lines lw 0.8 dt dash(i) lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i ? column("bits_stored") : NaN):(column("ppl")):(column("ppl_lo")):(column("ppl_hi")) \
        with yerrorbars pt 0 lw 1 lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i ? column("bits_stored") : NaN):(column("ppl")) \
        with points pt shape(i) ps 0.7 lc rgb color(i) notitle, \
    for [k = 1:(n_unranked > 0)] "" using (column("unranked") == 1 ? column("bits_stored") : NaN):(column("ppl")) \
        with points pt 2 ps 1.2 lw 1.2 lc rgb "black" notitle
unset multiplot
