# title: Methods at equal stored bits
# data: model
# order: 12
# needs: bits_stored loss
# alt: Loss over stored bits per quantized weight, log scale. Faint open symbols are settings (means over calibration seeds; at the lower edge: no worse than full precision); a line joins those on a method's lower hull, and is what the table at equal stored bits reads.
width = 720
legend_right = 1
load style
set title title
set logscale y
set format y "%.0e"
set xlabel "bits_stored: everything stored, bits per quantized weight"
set ylabel loss_label
set autoscale noextend
set offsets graph 0.02, graph 0.02, 0, 0
set yrange [loss_floor * 0.7:* < 1e30]
mine(i, want) = column("series") == i && column("unranked") == 0 && column("hull") == want ? column("mean_bits") : NaN
plot for [i = 1:n_series] data using (mine(i, 0)):(column("mean_shown")) \
        with points pt open(i) ps 0.5 lw 0.7 lc rgb color(i), \
    for [i = 1:n_series] "" using (mine(i, 1)):(column("mean_shown")) smooth unique \
        with lines lw 1.6 dt dash(i) lc rgb color(i), \
    for [i = 1:n_series] "" using (mine(i, 1)):(column("mean_shown")) \
        with points pt shape(i) ps 0.8 lc rgb color(i)
