# Shared by the scripts of system/: where things are, how they speak, how they fail.
#
# Everything made here lives below build/: debs and package lists in build/cache (kept, so that a
# later run needs no network), images in build/dom0 and build/guest.  Whatever takes time is made
# under a temporary name beside its final place and renamed at the end, so an interrupted run
# leaves nothing that a later one could take for finished work.

set -euo pipefail
umask 022
export LC_ALL=C

SYSTEM=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(dirname "$SYSTEM")
BUILD=${BUILD:-$TOP/build}
CACHE=$BUILD/cache${ARCHITECTURE:+/$ARCHITECTURE}

# Debian keeps mke2fs, sfdisk, depmod and losetup where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }

die()
{
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# step TEXT COMMAND...: one progress line with the time it took; the command's own chatter only
# appears, after the line, when it fails.
step()
{
    local text=$1 log start=$SECONDS status=0
    shift
    log=$(mktemp) || die "cannot write to ${TMPDIR:-/tmp}"
    printf '  %-58s' "$text" >&2
    "$@" >"$log" 2>&1 || status=$?
    if [ "$status" = 0 ]; then
        printf '%3d s\n' $((SECONDS - start)) >&2
    else
        printf 'failed\n' >&2
        # One line says what went wrong; the last one of a failing command is the nearest to it.
        grep -E "No space left|Permission denied|command not found|^E: |rror" "$log" | tail -n 1 >&2 ||
            tail -n 1 "$log" >&2
        mv "$log" "$BUILD/failed.log" 2>/dev/null && say "  (all its output: build/failed.log)"
    fi
    rm -f "$log"
    return "$status"
}

# need_space MIB: the images are sparse, so running out of space would show late and as something
# else; ask before.
need_space()
{
    local free
    free=$(df -Pm "$BUILD" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$1" ] ||
        die "not enough disk space for the images: $BUILD has $free MiB free, $1 MiB are needed"
}

make_build_folders()
{
    mkdir -p "$BUILD" "$CACHE" 2>/dev/null && [ -w "$BUILD" ] && [ -w "$CACHE" ] ||
        die "no permission to write to $BUILD"
}
