#!/usr/bin/env bash
# Builds the program with a fault in it: tests/faults/build.sh FAULT.pl OUT, called by make with CC, COMPILE, LINK and LIBS.
# FAULT.pl holds sections: a line "#: FILE", then Perl that turns the file's text into the faulty one. A section that changes
# nothing is an error, so that a fault cannot fade away with the code it broke. The faulty objects come before the library,
# whose own members of that name are then not linked.
set -eu
fault=$1 out=$2
work=$out.work
rm -rf "$work"
mkdir -p "$work"
objects=()
# shellcheck disable=SC2013 # names without blanks
for file in $(sed -n 's/^#: //p' "$fault"); do
    awk -v want="#: $file" '/^#: /{on = $0 == want} on' "$fault" >"$work/section.pl"
    name=$(basename "$file" .c)
    perl -0777 -p "$work/section.pl" <"$file" >"$work/$name.c"
    ! cmp -s "$file" "$work/$name.c" || { echo "$fault: changes nothing in $file" >&2; exit 1; }
    variants=("")
    case $file in methods/* | *_real.c) variants=("" -DPTQ_DOUBLE) ;; esac
    for v in "${variants[@]}"; do
        # shellcheck disable=SC2086 # flags are words
        $CC $COMPILE $v -I"$(dirname "$file")" -c "$work/$name.c" -o "$work/$name$v.o"
        objects+=("$work/$name$v.o")
    done
done
# shellcheck disable=SC2086
$CC $LINK "${objects[@]}" $LIBS -o "$out"
rm -rf "$work"
