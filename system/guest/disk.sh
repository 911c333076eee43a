# make_disk IMAGE MIB BOOT SET...: a whole disk with one Linux partition from 1 MiB to its end, which
# has a guest's Debian made of the packages of these fetched sets, the content of the folder BOOT in
# its /boot, and in front of it Debian's GRUB for a PC's BIOS.  Sourced; runs below fakeroot.
make_disk()
{
    local image=$1 size=$2 boot=$3 here=$SYSTEM/guest root name
    shift 3
    root=$(mktemp -d "$image.XXXXXX.tmp")
    chmod 755 "$root"
    unpack_sets "$root" "$here/leave-out" "$@"
    mkdir -p "$root"/{dev,proc,sys,run,tmp,root,mnt,var/lib,boot/grub}
    rm -rf "$root/var/run" "$root/var/lock"
    ln -s /run "$root/var/run"
    ln -s /run/lock "$root/var/lock"
    cp -r "$here/files/." "$root/"
    cp -r "$boot/." "$root/boot/"
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
    put_grub "$image"
    rm -rf "$root"
}

# put_grub IMAGE: GRUB in the space before the first partition.  What grub-install does on a disk:
# boot.img in the first sector, but for the partition table in it, loads the core from the second.
put_grub()
{
    local image=$1 grub=/usr/lib/grub/i386-pc
    grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$image.core" biosdisk part_msdos ext2 \
        normal linux serial terminal echo test reboot halt
    dd if=$grub/boot.img of="$image" bs=440 count=1 conv=notrunc status=none
    dd if="$image.core" of="$image" bs=512 seek=1 conv=notrunc status=none
    rm -f "$image.core"
}
