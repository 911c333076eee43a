# make_disk IMAGE MIB BOOT SET...: a whole disk with a Linux partition from 1 MiB on, which has a
# guest's Debian made of the packages of these fetched sets and the content of the folder BOOT in its
# /boot.  Debian's GRUB is in front of it for a PC's BIOS, and in an EFI system partition behind it.
# Sourced; runs below fakeroot.
ESP_MIB=8
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
    printf '%s\n' "start=1M, size=$((size - 1 - ESP_MIB))M, type=83" "size=${ESP_MIB}M, type=ef" |
        sfdisk -q --label dos "$image"
    mke2fs -q -t ext4 -L guest -d "$root" -E root_owner=0:0,offset=$((2048 * 512)) "$image" \
        "$((size - 1 - ESP_MIB))M"
    put_grub "$image"
    put_grub_efi "$image" $((size - ESP_MIB))
    rm -rf "$root"
}

# put_grub IMAGE: GRUB in the space before the first partition.  What grub-install does on a disk:
# boot.img in the first sector, but for the partition table in it, loads the core from the second.
put_grub()
{
    local image=$1 grub=/usr/lib/grub/i386-pc
    grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$image.core" biosdisk part_msdos ext2 \
        normal linux serial terminal vbe gfxterm font echo test reboot halt
    dd if=$grub/boot.img of="$image" bs=440 count=1 conv=notrunc status=none
    dd if="$image.core" of="$image" bs=512 seek=1 conv=notrunc status=none
    rm -f "$image.core"
}

# put_grub_efi IMAGE MIB: a FAT file system at this place, with GRUB where firmware looks for it on a
# disk that it does not know (UEFI specification, section 3.5.1.1).
put_grub_efi()
{
    local image=$1 at="$1@@$2M"
    printf '%s\n' 'search --file /boot/grub/grub.cfg --set=root' 'set prefix=($root)/boot/grub' \
        >"$image.cfg"
    grub-mkimage -O x86_64-efi -p /boot/grub -c "$image.cfg" -o "$image.efi" part_msdos fat ext2 \
        search search_fs_file normal linux serial terminal efi_gop gfxterm font echo test reboot halt
    mformat -i "$at" -T $((ESP_MIB * 2048)) -h 64 -s 32 -H $(($2 * 2048)) ::
    mmd -i "$at" ::/EFI ::/EFI/BOOT
    mcopy -i "$at" "$image.efi" ::/EFI/BOOT/BOOTX64.EFI
    rm -f "$image.cfg" "$image.efi"
}
