# Functions that make a root file system out of .debs; sourced by dom0/build and guest/build,
# which run below fakeroot.
#
# Packages are unpacked, not installed: no maintainer script runs, so what those would have set up
# (users, alternatives, the loader's cache) is either in the files folders beside the build scripts
# or not needed.  That keeps a build at some seconds and independent of the building machine.

# unpack_sets ROOT LEAVE-OUT SET...: all packages of fetched sets except those that a pattern in the
# file LEAVE-OUT matches.
unpack_sets()
{
    local root=$1 leave_out=$2 deb name dir
    shift 2
    # The merged /usr of Debian 12: the links must be there before the first package.
    for dir in bin sbin lib lib64; do
        mkdir -p "$root/usr/$dir"
        ln -s "usr/$dir" "$root/$dir"
    done
    (cd "$CACHE/sets" && sed '/^#/d' "$@" | sort -u) | while read -r deb; do
        name=${deb%%_*}
        grep -qxE -f <(grep -v '^#' "$leave_out") <<<"$name" &&
            continue
        dpkg-deb --fsys-tarfile "$CACHE/debs/$deb" |
            tar -x -C "$root" --keep-directory-symlink --exclude='./usr/share/doc/*' \
                --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*' \
                --exclude='./usr/share/info/*' --exclude='./usr/share/lintian/*' \
                --exclude='./usr/share/bash-completion/*' --exclude='./usr/lib/x86_64-linux-gnu/gconv/*'
    done
}

# copy_modules FROM ROOT LIST: the kernel modules named in the file LIST, with what they depend on,
# and an index for modprobe.  FROM is an unpacked kernel package with its depmod index.  A name that
# this kernel does not have as a module (built in, or left out as in the cloud kernel) is skipped.
copy_modules()
{
    local from=$1 root=$2 list=$3 release module path
    release=$(basename "$from"/lib/modules/*)
    mkdir -p "$root/lib/modules/$release"
    cp "$from/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} \
        "$root/lib/modules/$release"
    grep -v '^#' "$list" | while read -r module; do
        modprobe -d "$from" -S "$release" --show-depends "$module" 2>/dev/null || true
    done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r path; do
        path=${path#"$from"/}
        mkdir -p "$root/$(dirname "$path")"
        cp "$from/$path" "$root/$path"
    done
    depmod -b "$root" "$release"
}

# pack_initrd FROM INIT LIST OUT: an initramfs of a static busybox, the script INIT and modules.
pack_initrd()
{
    local from=$1 init=$2 list=$3 out=$4 tree
    tree=$(mktemp -d "$(dirname "$out")/initrd.XXXXXX")
    mkdir -p "$tree"/{bin,dev,proc,sys,root,lib}
    dpkg-deb --fsys-tarfile "$CACHE"/debs/busybox-static_*.deb | tar -xO ./bin/busybox >"$tree/bin/busybox"
    chmod 755 "$tree/bin/busybox"
    ln -s bin "$tree/sbin"
    ln -s busybox "$tree/bin/sh"
    copy_modules "$from" "$tree" "$list"
    install -m 755 "$init" "$tree/init"
    (cd "$tree" && find . -print0 | sort -z | cpio --null -o -H newc --quiet) | gzip -6 >"$out"
    rm -rf "$tree"
}
