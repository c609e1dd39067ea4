# title: Relative output error of every layer
# data: layer
# order: 30
# needs: out_relerr
# alt: Map of out_relerr, the error of a layer's output relative to the output, log colour scale: a row a layer, a column a cell of the sweep (first calibration seed). Blank: not run.
left = 24 + 7.0 * (y_chars < 60 ? y_chars : 60)
bottom = 24 + 7.6 * (x_chars < 60 ? x_chars : 60)
width = left + 130 + (n_x < 12 ? 12 : n_x > 120 ? 120 : n_x) * 18
height = bottom + 40 + (n_y < 4 ? 4 : n_y > 60 ? 60 : n_y) * 15
legend_right = 0 # the columns say which method they are
load style
# Viridis: even in lightness, so it reads in grey and for colour-blind eyes.
set palette defined (0 "#440154", 0.2 "#414487", 0.4 "#2A788E", 0.6 "#22A884", 0.8 "#7AD151", 1 "#FDE725")
set logscale cb
set format cb "%.0e"
set cblabel "out_relerr"
set lmargin at screen left / width
set rmargin at screen 1 - 130.0 / width
set bmargin at screen bottom / height
set tmargin at screen 1 - 40.0 / height
set colorbox user origin screen 1 - 110.0 / width, screen bottom / height size screen 22.0 / width, screen (height - bottom - 40.0) / height
unset grid
unset key
unset xtics
unset ytics
set border 0
set xrange [0.5:n_x + 0.5]
set yrange [n_y + 0.5:0.5]
plot data using (column("x")):(column("y")):(column("x") - 0.5):(column("x") + 0.5):(column("y") - 0.5):(column("y") + 0.5):(column("out_relerr") > 0 ? column("out_relerr") : NaN) \
        with boxxyerror fill solid noborder lc palette z notitle, \
    "" using (strlen(stringcolumn("y_label")) > 0 ? 0.5 : NaN):(column("y")):(stringcolumn("y_label")) with labels right offset -0.6, 0 notitle, \
    "" using (strlen(stringcolumn("x_label")) > 0 ? column("x") : NaN):(n_y + 0.5):(stringcolumn("x_label")) with labels rotate by 90 right offset 0, -0.6 notitle
