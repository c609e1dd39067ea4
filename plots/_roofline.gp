# What `ptq bench --plot` draws; not a picture of a run, hence the underscore. Given besides what _style.gp names: read_gbs, fma and
# dot (best probes; 0: not probed). data: a line a row of the bench that counts operations: label, and its numbers by name.
set datafile separator "\t"
set datafile columnheaders
stats data using (column("intensity")) name "X" nooutput
stats data using (column("gops")) name "Y" nooutput
n = int(X_records)
array LABEL[n]
stats data using (LABEL[int($0) + 1] = stringcolumn("label"), 1) name "L" nooutput
longest = 32
do for [i = 1:n] { longest = strlen(LABEL[i]) > longest ? strlen(LABEL[i]) : longest }
plot_right = 620.0
width = plot_right + 50 + 7.6 * longest
height = 520 > 140 + 18 * n ? 520 : 140 + 18 * n
load style
set title title offset 0, -0.3
set rmargin at screen plot_right / width
set logscale xy
set xlabel "operations a byte from memory"
set ylabel "Gop/s"
set format x "%g"
set format y "%g"
set for [k = -1:5] ytics add (1 * 10.0**k, 2 * 10.0**k, 5 * 10.0**k)
peak = fma > dot ? fma : dot
set xrange [X_min / 2:X_max * 2 > 2 * peak / read_gbs ? X_max * 2 : 2 * peak / read_gbs]
set yrange [Y_min / 2:(peak > Y_max ? peak : Y_max) * 2]
roof(x, top) = x * read_gbs < top ? x * read_gbs : top
# A line a row beside the picture: gnuplot's own legend breaks into columns.
unset key
beside(line) = 1 - (50 + 18.0 * line) / height
set label 100 sprintf("slope: read %.1f GB/s", read_gbs) at screen (plot_right + 16) / width, screen beside(0) left
set label 101 sprintf("line: int8 dot %.0f Gop/s", dot) at screen (plot_right + 16) / width, screen beside(1) left
set label 102 sprintf("dashed: fp32 FMA %.0f GFLOP/s", fma) at screen (plot_right + 16) / width, screen beside(2) left
do for [i = 1:n] {
    set label i LABEL[i] at screen (plot_right + 24) / width, screen beside(i + 2.5) left \
        point pt shape(i) ps 0.9 lc rgb color(i) offset character 1.5, -0.2
}
set samples 400
plot for [k = 1:(dot > 0)] roof(x, dot) with lines lw 1.6 lc rgb "black", \
    for [k = 1:(fma > 0)] roof(x, fma) with lines lw 1.6 dt 2 lc rgb "black", \
    for [i = 1:n] data using (int($0) + 1 == i ? column("intensity") : NaN):(column("gops")) \
        with points pt shape(i) ps 0.9 lc rgb color(i)
