# make_disk IMAGE MIB SET...: a whole disk with one Linux partition from 1 MiB to its end, which has a
# guest's Debian made of the packages of these fetched sets.  Sourced; runs below fakeroot.
make_disk()
{
    local image=$1 size=$2 here=$SYSTEM/guest root name
    shift 2
    root=$(mktemp -d "$image.XXXXXX.tmp")
    chmod 755 "$root"
    unpack_sets "$root" "$here/leave-out" "$@"
    mkdir -p "$root"/{dev,proc,sys,run,tmp,root,mnt,var/lib}
    rm -rf "$root/var/run" "$root/var/lock"
    ln -s /run "$root/var/run"
    ln -s /run/lock "$root/var/lock"
    cp -r "$here/files/." "$root/"
    chmod 600 "$root/etc/shadow"
    for name in init poweroff reboot halt cmp vi less; do
        [ -e "$root/usr/bin/$name" ] || [ -e "$root/usr/sbin/$name" ] ||
            ln -s ../bin/busybox "$root/usr/sbin/$name"
    done
    ln -sf mawk "$root/usr/bin/awk"
    ln -sf bash "$root/usr/bin/sh"

    truncate -s "${size}M" "$image"
    echo 'start=2048, type=83' | sfdisk -q --label dos "$image"
    mke2fs -q -t ext4 -L guest -d "$root" -E root_owner=0:0,offset=$((2048 * 512)) "$image" \
        "$((size - 1))M"
    rm -rf "$root"
}
