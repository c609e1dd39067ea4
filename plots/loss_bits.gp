# title: Loss against stored bits
# data: model
# order: 10
# needs: bits_stored loss
# alt_layers: Loss of every setting, over its layers, against the bits it stores per quantized weight, log scale; dashed steps: the Pareto front.
# alt: Loss of every setting against the bits it stores per quantized weight, log scale. Bars: 95 % intervals over windows; dashed steps: the Pareto front.
legend_note = "dashed steps: Pareto front"
load style
set title title . FLOOR_NOTE
set logscale y
set format y "%.0e"
set xlabel "bits_stored: everything stored, bits per quantized weight"
set ylabel loss_label
set autoscale noextend
set offsets graph 0.02, graph 0.02, 0, 0
set yrange [loss_floor * 0.7:* < 1e30]
plot data using (column("front") == 1 ? column("mean_bits") : NaN):(column("mean_shown")) smooth unique \
        with steps lw 1.5 dt 2 lc rgb "black" title "Pareto front", \
    for [i = 1:n_series] "" using (column("series") == i ? column("mean_bits") : NaN):(column("mean_shown")) \
        with lines lw 0.8 dt dash(i) lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i ? column("bits_stored") : NaN):(column("loss_shown")):(column("lo_shown")):(column("hi_shown")) \
        with yerrorbars pt 0 lw 1 lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i && column("at_floor") == 0 ? column("bits_stored") : NaN):(column("loss_shown")) \
        with points pt shape(i) ps 0.7 lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (column("series") == i && column("at_floor") == 1 ? column("bits_stored") : NaN):(column("loss_shown")) \
        with points pt open(i) ps 0.8 lc rgb color(i) notitle, \
    for [k = 1:(n_unranked > 0)] "" using (column("unranked") == 1 ? column("bits_stored") : NaN):(column("loss_shown")) \
        with points pt 2 ps 1.2 lw 1.2 lc rgb "black" title UNRANKED, \
    for [i = 1:n_series] NaN with linespoints pt shape(i) ps 0.7 dt dash(i) lc rgb color(i) title NAMES[i]
