#!/usr/bin/env bash
# Instructions that kernels take, counted by valgrind inside the kernel alone, against tests/counts/counts.tsv.
#   tests/cli/kernel_counts.sh             compares: exactly where the compiler is the recorded one, else differences are only shown
#   tests/cli/kernel_counts.sh --update    writes the file anew, for the kernels and shapes that it lists (as `make counts`)
# A row is added to the file by hand, with any number, and then filled in by --update; words of a shape: tests/counts/kernel_counts.c.
. "$(dirname "$0")/../lib.sh"
table=tests/counts/counts.tsv
version=$("$PTQ" --version)
build=$(sed -E 's/^ptq [^ ]+ \(([a-z]+), .*/\1/' <<<"$version")
compiler=$(sed -E 's/^ptq [^ ]+ \([a-z]+, (.*)\)$/\1/' <<<"$version")
[ "$build" = release ] || skip "instruction counts of kernels: they are those of the release build, this is $build"
command -v valgrind >/dev/null || skip "instruction counts of kernels: valgrind is not installed"
valgrind --tool=none -q true >/dev/null 2>&1 || skip "instruction counts of kernels: valgrind does not run here"

# Line 1: the compiler; line 2: names of columns.
recorded=$(head -n 1 "$table")
mapfile -t rows < <(tail -n +3 "$table")
[ ${#rows[@]} -gt 0 ] || fail "$table lists no kernels"
cases=()
for row in "${rows[@]}"; do
    IFS=$'\t' read -r kernel shape _ <<<"$row"
    cases+=("$kernel" "$shape")
done

# A dump a call. Symbols are bound before, else the first call that needs one counts the search for it.
LD_BIND_NOW=1 valgrind --tool=callgrind --collect-atstart=no --toggle-collect=counted --dump-after=counted \
    --compress-strings=no --compress-pos=no --callgrind-out-file="$work/out" "$BUILD_DIR/tests/counts/kernel_counts" "${cases[@]}" >"$work/log" 2>&1
code=$?
[ $code -eq 77 ] && skip "instruction counts of kernels: $(grep -m1 '^this processor' "$work/log")"
[ $code -eq 0 ] || fail "kernel_counts: exit code $code: $(cat "$work/log")"

# What the functions of a dump cost themselves. The C library's are left out: which memcpy it has depends on the processor.
own_cost() { # dump
    awk '/^ob=/ { own = /\/kernel_counts$/ } /^fn=/ { caller = /^fn=counted$/ } /^calls=/ { getline; next }
        /^[0-9]+ [0-9]+$/ && own && !caller { sum += $2 } END { printf "%d\n", sum }' "$1"
}

new=$work/new.tsv
printf '%s\n' "$compiler" >"$new"
printf 'kernel\tshape\tinstructions\n' >>"$new"
for ((i = 0; i < ${#rows[@]}; i++)); do
    count=$(own_cost "$work/out.$((i + 1))")
    [ "${count:-0}" -gt 0 ] || fail "${cases[2 * i]} ${cases[2 * i + 1]}: nothing was counted"
    printf '%s\t%s\t%s\n' "${cases[2 * i]}" "${cases[2 * i + 1]}" "$count" >>"$new"
done

differences() { # kernel, shape, recorded, now, change
    paste "$table" "$new" | awk -F '\t' 'NR > 2 && $3 != $6 {
        printf "  %-18s %-22s %12s -> %12s  %+.2f %%\n", $1, $2, $3, $6, ($3 ? 100 * ($6 / $3 - 1) : 0) }'
}
changed=$(differences)
if [ "${1:-}" = --update ]; then
    [ -z "$changed" ] || echo "$changed"
    cp "$new" "$table" && echo "$table: ${#rows[@]} counts, $compiler"
elif [ -z "$changed" ]; then
    echo "${#rows[@]} counts as recorded"
elif [ "$compiler" = "$recorded" ]; then
    echo "FAIL: instructions, recorded -> now, $compiler:"
    echo "$changed"
    echo "If that is meant: make counts (or tests/cli/kernel_counts.sh --update), and commit $table."
    exit 1
else
    echo "SKIP comparison of instruction counts: recorded with $recorded, this is $compiler; recorded -> now:"
    echo "$changed"
fi
