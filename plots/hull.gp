# title: Methods at equal stored bits
# data: model
# order: 12
# needs: bits_stored loss
# alt: Loss over stored bits per quantized weight, log scale: faint symbols are settings (means over calibration seeds), a line joins the settings on a method's lower hull. Between two of them the line is what the table at equal stored bits reads.
longest = 0
do for [i = 1:n_series] { longest = strlen(NAMES[i]) > longest ? strlen(NAMES[i]) : longest }
# The legend stands beside the picture, a line a method, so that a dozen methods can be told apart and read in order.
width = 700 + 8 * (longest < 12 ? 12 : longest)
height = 520 > 80 + 22 * n_series ? 520 : 80 + 22 * n_series
load style
set title title
set key outside right top vertical Left reverse samplen 3 spacing 1.15 width 0 maxcols 1
set logscale y
set format y "%.0e"
set xlabel "bits_stored: everything stored, bits per quantized weight"
set ylabel loss_label
set autoscale noextend
set offsets graph 0.02, graph 0.02, 0, 0
set yrange [loss_floor * 0.7:* < 1e30]
mine(i, want) = column("series") == i && column("unranked") == 0 && column("hull") == want ? column("mean_bits") : NaN
plot for [i = 1:n_series] data using (mine(i, 0)):(column("mean_shown")) \
        with points pt open(i) ps 0.5 lw 0.7 lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (mine(i, 1)):(column("mean_shown")) smooth unique \
        with lines lw 1.6 dt dash(i) lc rgb color(i) notitle, \
    for [i = 1:n_series] "" using (mine(i, 1)):(column("mean_shown")) \
        with points pt shape(i) ps 0.8 lc rgb color(i) notitle, \
    for [i = 1:n_series] NaN with linespoints pt shape(i) ps 0.8 lw 1.6 dt dash(i) lc rgb color(i) title NAMES[i]
