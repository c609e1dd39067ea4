# What all pictures share: a picture sets width and height (or keeps these) and says `load style`.
#
# Given by the program: term, out, data, style, title, model (texts); loss_label; loss_floor (half of the least positive loss: where
# values at or below 0 stand on a log axis), n_floor (how many); n_unranked (points of settings that are not ranked); n_series, NAMES[] (method and variant by series); n_x, n_y (cells
# and layers of the layer map), x_chars, y_chars (its longest labels); full_ppl (0: unknown).
#
# model.tsv, a line a point: series (from 1) name method base bits group_size calib_seed bits_stored loss loss_lo loss_hi, loss_shown
# lo_shown hi_shown (not below loss_floor), at_floor, mean_bits mean_shown (over calibration seeds; on the first line of a setting),
# front (1: on the Pareto front), hull (1: a corner of its method's lower hull), unranked (1: crossed out, not ranked), ppl ppl_lo ppl_hi out_relerr (geometric mean over layers) time_s n_layers, then every other metric.
# layer.tsv, a line a layer cell: layer label y_label x_label (texts, empty where no label stands) y x (from 1) bits group_size
# calib_seed time_s, then every metric.
# block.tsv, a line a block of a few models, which NAMES then names: series name block total local inherited.
if (!exists("width")) width = 900
if (!exists("height")) height = 540
# More than six series: a line each beside the picture, in order; gnuplot's own legend would eat the picture or break into columns
# that the edge cuts off. A picture may ask for it (legend_right = 1) and end such a list with a note of its own (legend_note).
if (!exists("n_series")) n_series = 0
if (!exists("legend_right")) legend_right = n_series > 6
if (!exists("legend_note")) legend_note = ""
picture_right = width
if (legend_right) {
    longest = strlen(legend_note)
    do for [i = 1:n_series] { longest = strlen(NAMES[i]) > longest ? strlen(NAMES[i]) : longest }
    width = picture_right + 60 + 7.2 * longest
    height = height > 110 + 20 * n_series ? height : 110 + 20 * n_series
}
eval(sprintf("set terminal %s size %d,%d", term, width, height))
set output out
set encoding utf8
set datafile separator "\t"
set datafile columnheaders
set datafile missing NaN
title = title . " (" . model . ")"
set title title

# Okabe and Ito's colours, which colour-blind readers can tell apart (without yellow, which vanishes on white), and shapes that
# differ as well: 6 colours, 7 shapes, so 42 series are distinct. Open shapes are kept for points at the floor.
array COLOR[6] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
# Series of one colour are neighbours in SHAPE: what looks alike (circle and pentagon, the triangles) stands three places apart.
array SHAPE[7] = [7, 5, 9, 13, 15, 11, 2]
array OPEN[7] = [6, 4, 8, 12, 14, 10, 1]
array DASH[4] = [1, 2, 4, 5]
color(i) = COLOR[(i - 1) % 6 + 1]
shape(i) = SHAPE[(i - 1) % 7 + 1]
open(i) = OPEN[(i - 1) % 7 + 1]
dash(i) = DASH[(i - 1) % 4 + 1]

set border 3 lw 1 lc rgb "black"
set tics nomirror out
set grid xtics ytics lc rgb "gray" lw 0.5 dt (2, 4)
set key outside below center horizontal Left reverse width 2 height 0.8 samplen 2.5
if (legend_right) {
    unset key
    set rmargin at screen (picture_right - 10.0) / width
    do for [i = 1:n_series] {
        set label 100 + i NAMES[i] at screen (picture_right + 14.0) / width, screen 1 - (56 + 20.0 * (i - 1)) / height left \
            point pt shape(i) ps 0.8 lc rgb color(i) offset character 1.5, -0.2
    }
    set label 100 legend_note at screen (picture_right + 14.0) / width, screen 1 - (56 + 20.0 * n_series) / height left
}
set lmargin 11
# No white discs behind points: they would show on dark pages.
set pointintervalbox 0
set xlabel offset 0, 0.2
# Settings that are not ranked (weights that lay on such a grid already) are crossed out.
UNRANKED = "not ranked: weights on such a grid"
FLOOR_NOTE = n_floor > 0 ? sprintf("\nopen symbols: %d at or below 0, no worse than full precision; drawn at the lower edge", n_floor) : ""
