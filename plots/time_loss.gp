# title: Quantization time against loss
# data: model
# order: 40
# needs: loss time_s
# alt: Seconds spent quantizing all layers (preparation, which cells share, left out) against the loss of every setting, both on log scales; lower left is better.
load style
set format y "%.0e"
set format x "%g"
set xlabel "time_s: quantizing every layer (without shared preparation), seconds"
set ylabel loss_label
set title title . FLOOR_NOTE
set autoscale noextend
stats data using (column("time_s") > 0 ? column("time_s") : NaN) name "TIME" nooutput
set xrange [TIME_min * 0.7:TIME_max * 1.4]
set logscale xy
# A log axis over two decades has too few powers of ten, one over more has no room for others.
if (TIME_max < 100 * TIME_min) {
    set for [k = -4:5] xtics add (1 * 10.0**k, 2 * 10.0**k, 5 * 10.0**k)
}
set yrange [loss_floor * 0.7:* < 1e30]
plot for [i = 1:n_series] data using (column("series") == i && column("at_floor") == 0 && column("time_s") > 0 ? column("time_s") : NaN):(column("loss_shown")) \
        with points pt shape(i) ps 0.8 lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i && column("at_floor") == 1 && column("time_s") > 0 ? column("time_s") : NaN):(column("loss_shown")) \
        with points pt open(i) ps 0.8 lc rgb color(i) notitle, \
    for [k = 1:(n_unranked > 0)] "" using (column("unranked") == 1 && column("time_s") > 0 ? column("time_s") : NaN):(column("loss_shown")) \
        with points pt 2 ps 1.2 lw 1.2 lc rgb "black" title UNRANKED, \
    for [i = 1:n_series] NaN with points pt shape(i) ps 0.8 lc rgb color(i) title NAMES[i]
