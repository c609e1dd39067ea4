#!/usr/bin/env bash
# The house rules that a compiler does not check: who may include whom, and what may stand where.
#   tests/cli/layers.sh          checks this tree, then proves on copies with one fault each that every rule can fail
#   tests/cli/layers.sh ROOT     checks the tree ROOT only; one line a fault, exit code 1 when there is one
set -u

LAYERS="core datasets quant kernels model metrics sweep analysis cli"
LIBC="assert ctype errno float inttypes limits math stdalign stdbool stdint stddef stdlib string"

faults=0
fault() { # file, rest of the message
    echo "$1: $2"
    faults=$((faults + 1))
}

rank() { # layer -> its place; a folder that is no layer: nothing
    local i=0 layer
    for layer in $LAYERS; do
        [ "$layer" = "$1" ] && echo $i && return
        i=$((i + 1))
    done
}

# C files of the layers, as paths below the root.
sources() { find harness datasets methods -name '*.[ch]' 2>/dev/null | sort; }

layer_of() { # path -> layer; harness/ptq.h: ptq
    case $1 in
    harness/ptq.h) echo ptq ;;
    harness/*/*) local rest=${1#harness/} && echo "${rest%%/*}" ;;
    *) echo "${1%%/*}" ;;
    esac
}

# The file's included names with their line: LINE "name" or LINE <name>. Also "# include" and #include_next.
includes() {
    sed -nE 's/^[[:space:]]*#[[:space:]]*include(_next)?[[:space:]]*(["<][^">]*[">]).*/\2/;T;=;p' "$1" | paste -d' ' - -
}

# Everything but comments and texts, with the lines kept: LINE:code.
code_of() {
    perl -0777 -pe 's{("(?:\\.|[^"\\])*")|(\x27(?:\\.|[^\x27\\])*\x27)|(/\*.*?\*/|//[^\n]*)}
                     {defined $1 ? "\"\"" : defined $2 ? "0" : $3 =~ s/[^\n]//gr . " "}gesx' "$1" | grep -n ''
}

# "x.h": the layer a quoted name belongs to; it is found from harness/, from the root, or beside the file.
target_layer() { # including file, name
    local file=$1 name=$2
    case $name in
    ptq.h) echo ptq ;;
    *.inc) echo generated ;;
    ../* | */../*) echo 'a path with ..' ;;
    */*)
        if [ -n "$(rank "${name%%/*}")" ]; then
            echo "${name%%/*}"
        elif [ "${name%%/*}" = harness ] || [ "${name%%/*}" = methods ]; then
            layer_of "$name"
        else
            echo system
        fi
        ;;
    *) if [ -e "$(dirname "$file")/$name" ]; then layer_of "$file"; else echo system; fi ;;
    esac
}

check_arrow() { # file, line, name with its quotes
    local file=$1 line=$2 name=${3:1:-1} from to
    from=$(layer_of "$file")
    to=$(target_layer "$file" "$name")
    if [ "$from" = methods ]; then
        [[ $to == ptq || ($3 == '<'* && " $LIBC " == *" ${name%.h} "*) ]] ||
            fault "$file:$line" "a method includes \"ptq.h\" and of libc: $LIBC; not $3"
        return
    fi
    [ "$to" = system ] || [ "$to" = ptq ] || [ "$to" = generated ] && return
    if [ "$from" = ptq ]; then
        fault "$file:$line" "ptq.h includes no file of the project, not $3"
    elif [ -z "$(rank "$to")" ]; then
        fault "$file:$line" "$3 is $to, not a layer ($LAYERS)"
    elif [ -z "$(rank "$from")" ]; then
        fault "$file" "the folder $from is not a layer ($LAYERS)"
    elif [ "$(rank "$to")" -gt "$(rank "$from")" ]; then
        fault "$file:$line" "$from may not include $3: $to stands to its right in: $LAYERS"
    fi
}

# Foreign libraries have one place each.
check_library() { # file, line, name with its quotes
    local name=${3:1:-1}
    case $name in
    hdf5*.h | H5*.h) [ "$1" = datasets/h5.c ] || fault "$1:$2" "HDF5 is included in datasets/h5.c alone" ;;
    gsl/* | gsl_*) [ "$1" = harness/core/stat.c ] || fault "$1:$2" "GSL is included in harness/core/stat.c alone" ;;
    *cblas*.h | *lapack*.h | *openblas*.h)
        [[ $1 == harness/core/* ]] || fault "$1:$2" "BLAS and LAPACK are included in harness/core alone"
        ;;
    esac
}

check_includes() {
    local file line name
    while read -r file; do
        while read -r line name; do
            check_arrow "$file" "$line" "$name"
            check_library "$file" "$line" "$name"
        done < <(includes "$file")
    done < <(sources)
}

forbid() { # file, its code, pattern that begins a word, message
    local hit
    while IFS= read -r hit; do
        [ -z "$hit" ] || fault "$1:${hit%%:*}" "$4"
    done < <(grep -E "^[0-9]+:(.*[^A-Za-z0-9_.>])?$3" <<<"$2")
}

check_calls() {
    local file code
    while read -r file; do
        code=$(code_of "$file")
        forbid "$file" "$code" "(abort|quick_exit)[[:space:]]*\(" "abort: a fault has a status, a bug has assert"
        [ "$file" = harness/cli/main.c ] ||
            forbid "$file" "$code" "(exit|_exit|_Exit)[[:space:]]*\(" "only harness/cli/main.c exits"
        [[ $file == methods/* ]] || continue
        forbid "$file" "$code" "(malloc|calloc|realloc|aligned_alloc|free|strdup)[[:space:]]*\(" \
            "a method takes its memory from ptq_alloc"
        forbid "$file" "$code" "(f|d|v|vf|)(printf|puts|putc|putchar|write)[[:space:]]*\(" "a method prints nothing"
        forbid "$file" "$code" "static[[:space:]]+(unsigned |struct [a-z_]+ )?[a-z_0-9]+[[:space:]]+\*?[a-z_0-9]+(\[[^]]*\])?[[:space:]]*(;|=)" \
            "a method keeps no mutable static state"
    done < <(sources)
}

# No text ties the project to the machine it was written on.
check_text() {
    local hit
    while IFS= read -r hit; do
        fault "${hit%%:*}" "a path of one machine: ${hit#*:}"
    done < <(find harness datasets methods configs plots Makefile README.md \( -name '*.[ch]' -o -name '*.ini' -o -name '*.gp' \
        -o -name '*.md' -o -name Makefile \) -type f 2>/dev/null | sort |
        xargs -r grep -nE '(^|[^A-Za-z0-9_.}])/(work|tmp|home|root|Users)/' /dev/null)
}

check_tree() {
    cd "$1" || exit 1
    [ -n "$(sources)" ] || fault "$1" "no sources: is this the root of the tree?"
    check_includes
    check_calls
    check_text
    [ $faults -eq 0 ]
}

if [ $# -gt 0 ]; then
    check_tree "$1"
    exit
fi

# ---- the script's own test: a small tree without a fault, and copies with one each ----

self=$PWD/tests/cli/layers.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

small_tree() { # folder
    mkdir -p "$1"/harness/{core,quant,cli} "$1"/{datasets,methods}
    printf '#include <stddef.h>\n' >"$1/harness/ptq.h"
    printf '#include "ptq.h"\n#include <stdio.h>\n/* exit(1) in a comment; */\n' >"$1/harness/core/status.h"
    printf '#include "core/status.h"\n#include <gsl/gsl_cdf.h>\n#include <pthread.h>\n' >"$1/harness/core/stat.c"
    printf '#include "core/status.h"\n#include <cblas.h>\nconst char *s = "abort(";\n' >"$1/harness/core/linalg.c"
    printf '#include "datasets/h5.h"\n#include <hdf5.h>\n' >"$1/datasets/h5.c"
    printf '#include "core/status.h"\n' >"$1/datasets/h5.h"
    printf '#include "inner.h"\n#include "datasets/h5.h"\n#include "methods.inc"\n' >"$1/harness/quant/grid.c"
    printf '#include "core/status.h"\nint ptq_exit(int); int x = s->exit(1);\n' >"$1/harness/quant/inner.h"
    printf '#include "quant/inner.h"\nint main(void) { exit(0); }\n' >"$1/harness/cli/main.c"
    printf '#include "ptq.h"\n#include <math.h>\nstatic const int table[2] = {1, 2};\nstatic int f(int x);\n' >"$1/methods/rtn.c"
}

complaints=0
expect_fault() { # file, line to add, words of the message
    local tree=$scratch/fault
    rm -rf "$tree"
    small_tree "$tree"
    mkdir -p "$(dirname "$tree/$1")"
    printf '%s\n' "$2" >>"$tree/$1"
    if out=$("$BASH" "$self" "$tree") || ! grep -qF "$3" <<<"$out" || ! grep -q "$1" <<<"$out"; then
        echo "the check does not see '$2' in $1 (expected \"$3\", got \"$out\")"
        complaints=$((complaints + 1))
    fi
}

small_tree "$scratch/good"
if ! out=$("$BASH" "$self" "$scratch/good"); then
    echo "a tree without a fault is refused: $out"
    complaints=1
fi
mkdir "$scratch/empty"
"$BASH" "$self" "$scratch/empty" >/dev/null && echo "an empty tree passes" && complaints=1

expect_fault harness/core/stat.c '#include "quant/inner.h"' 'core may not include "quant/inner.h"'
expect_fault datasets/h5.c '  #  include <quant/inner.h>' 'datasets may not include'
expect_fault harness/quant/grid.c '#include "harness/cli/cli.h"' 'quant may not include'
expect_fault harness/quant/grid.c '#include "../core/status.h"' 'a path with ..'
expect_fault harness/quant/grid.c '#include "methods/rtn.c"' 'not a layer'
expect_fault harness/newlayer/x.c '#include "core/status.h"' 'newlayer is not a layer'
expect_fault harness/ptq.h '#include "core/status.h"' 'ptq.h includes no file'
expect_fault methods/rtn.c '#include "core/status.h"' 'a method includes'
expect_fault methods/rtn.c '#include <stdio.h>' 'a method includes'
expect_fault methods/rtn.c '#include <pthread.h>' 'a method includes'
expect_fault methods/rtn.c '    float *p = malloc (8);' 'ptq_alloc'
expect_fault methods/rtn.c '    free(p);' 'ptq_alloc'
expect_fault methods/rtn.c '    printf("x");' 'prints nothing'
expect_fault methods/rtn.c '    fprintf(stderr, "x");' 'prints nothing'
expect_fault methods/rtn.c 'static int calls = 0;' 'static state'
expect_fault methods/rtn.c 'static double table[4];' 'static state'
expect_fault harness/quant/grid.c '#include <hdf5.h>' 'HDF5'
expect_fault datasets/other.c '#include <hdf5_hl.h>' 'HDF5'
expect_fault harness/core/linalg.c '#include <gsl/gsl_math.h>' 'GSL'
expect_fault harness/quant/grid.c '#include <openblas/cblas.h>' 'BLAS'
expect_fault datasets/h5.c '#include <lapacke.h>' 'BLAS'
expect_fault harness/quant/grid.c 'void f(void) { exit(1); }' 'only harness/cli/main.c exits'
expect_fault harness/core/stat.c '/* a */ _exit(1);' 'only harness/cli/main.c exits'
expect_fault harness/cli/main.c 'abort();' 'abort'
expect_fault harness/quant/grid.c '/* see /home/me/notes */' 'a path of one machine'
expect_fault harness/quant/grid.c 'const char *dir = "/tmp/x";' 'a path of one machine'

"$BASH" "$self" "$PWD" && [ $complaints -eq 0 ]
