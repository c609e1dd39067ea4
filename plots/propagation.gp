# title: Error of the residual stream block by block
# data: block
# order: 25
# needs: total
# optional: yes
# alt: Three panels over the blocks of the model, log scale: what a block adds to full-precision inputs (local), what its full-precision weights make of the error that comes in (inherited), and the error that leaves it (total), each squared and relative to full precision, without sink tokens; a line a model, of the bits and group that most methods share (every block of every model: tables/propagation.csv).
width = 1000
height = 420
legend_right = 1
load style
stats data using (column("block")) name "BLOCK" nooutput
array PANEL[3] = ["local", "inherited", "total"]
set logscale y
set format y "%.0e"
set autoscale noextend
set xrange [-0.3:BLOCK_max + 0.3]
if (BLOCK_max < 12) { set xtics 1 }
# One that is 0 has no place on a log axis, and a panel may be empty: nothing is inherited without a block before.
above(x) = x > 0 ? x : column("total")
least(x, y) = x < y ? x : y
most(x, y) = x > y ? x : y
stats data using (least(column("total"), least(above(column("local")), above(column("inherited"))))) name "LOW" nooutput
stats data using (most(column("total"), most(above(column("local")), above(column("inherited"))))) name "TOP" nooutput
set yrange [LOW_min / 1.5:TOP_max * 1.5]
if (TOP_max / LOW_min < 50) {
    set ytics (1e-30)
    do for [e = floor(log10(LOW_min)) - 1:ceil(log10(TOP_max))] { set ytics add (10.0 ** e, 2 * 10.0 ** e, 5 * 10.0 ** e) }
}
left = 92.0 / width
step = (picture_right - 20.0 - 92.0) / 3 / width
set multiplot
set tmargin at screen 1 - 60.0 / height
set bmargin at screen 60.0 / height
unset title
set label 99 title at screen picture_right / 2.0 / width, screen 1 - 20.0 / height center
set xlabel "block"
do for [k = 1:3] {
    set lmargin at screen left + (k - 1) * step
    set rmargin at screen left + k * step - 16.0 / width
    set label 98 PANEL[k] at graph 0.5, graph 1.04 center
    if (k == 1) { set ylabel "squared error, relative" } else { unset ylabel; set format y "" }
    plot for [i = 1:n_series] data using (column("series") == i ? column("block") : NaN):(column(PANEL[k])) \
        with linespoints pt shape(i) ps 0.7 lw 1.5 dt dash(i) lc rgb color(i) notitle
    if (k == 1) {
        unset label 99
        do for [i = 1:n_series + 1] { unset label 99 + i }
    }
}
unset multiplot
