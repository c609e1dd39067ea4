# title: Loss against speed
# data: model
# order: 14
# needs: tokens_s loss
# optional: yes
# alt: Loss of every setting against the tokens a second that its stored form multiplies here (all quantized linears, one token at a time), both on log scales; lower right is better.
load style
set title title . FLOOR_NOTE
set logscale xy
set format y "%.0e"
set format x "%g"
set xlabel "tokens_s: tokens a second through the quantized linears, one at a time"
set ylabel loss_label
set autoscale noextend
stats data using (column("tokens_s") > 0 ? column("tokens_s") : NaN) name "SPEED" nooutput
set xrange [SPEED_min * 0.8:SPEED_max * 1.25]
if (SPEED_max < 100 * SPEED_min) {
    set for [k = -1:6] xtics add (1 * 10.0**k, 2 * 10.0**k, 5 * 10.0**k)
}
set yrange [loss_floor * 0.7:* < 1e30]
plot for [i = 1:n_series] data using (column("series") == i && column("at_floor") == 0 ? column("tokens_s") : NaN):(column("loss_shown")) \
        with points pt shape(i) ps 0.8 lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i && column("at_floor") == 1 ? column("tokens_s") : NaN):(column("loss_shown")) \
        with points pt open(i) ps 0.8 lc rgb color(i) notitle, \
    for [k = 1:(n_unranked > 0)] "" using (column("unranked") == 1 ? column("tokens_s") : NaN):(column("loss_shown")) \
        with points pt 2 ps 1.2 lw 1.2 lc rgb "black" title UNRANKED, \
    for [i = 1:n_series] NaN with points pt shape(i) ps 0.8 lc rgb color(i) title NAMES[i]
