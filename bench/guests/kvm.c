/*
 * kvm KERNEL INITRAMFS MEMORY-MIB 'COMMAND LINE' [xen]: runs a kernel with one CPU under /dev/kvm,
 * started by the PVH boot protocol (xen/arch-x86/hvm/start_info.h) as Xen's guests and QEMU's bare
 * machine are. Interrupt controllers and timers are the host kernel's, so this program runs again
 * only for ports and memory where nothing is; a serial port there shows what is written to it.
 */
#include <elf.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xen/xen.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/elfnote.h>

#define PAGE     4096ul
#define MIB      (1ul << 20)
#define HUGE     (2 * MIB)
#define INFO_AT  0x6000
#define TABLE_AT 0x7000
#define LINE_AT  0x8000
#define SERIAL   0x3f8
#define LSR_IDLE 0x60
#define CLOCK    0x71 /* the CMOS clock; one that is always busy would be waited for */

static uint8_t *memory;
static size_t size;

static void need(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(1);
}

static void *map(const char *path, size_t *length)
{
    int file = open(path, O_RDONLY);
    struct stat s;
    need(file >= 0 && !fstat(file, &s), path);
    *length = s.st_size;
    void *p = mmap(NULL, s.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    need(p != MAP_FAILED, path);
    return p;
}

/* Loads the segments where they want to be; returns the entry that the kernel's note names. */
static uint32_t load_kernel(const char *path)
{
    size_t length;
    const uint8_t *file = map(path, &length);
    const Elf64_Ehdr *head = (const void *)file;
    const Elf64_Phdr *part = (const void *)(file + head->e_phoff);
    uint32_t entry = 0;
    for (int i = 0; i < head->e_phnum; i++, part++) {
        if (part->p_type == PT_LOAD) {
            need(part->p_paddr + part->p_memsz <= size, "memory for the kernel");
            memcpy(memory + part->p_paddr, file + part->p_offset, part->p_filesz);
        }
        if (part->p_type != PT_NOTE)
            continue;
        for (size_t at = 0; at < part->p_filesz;) {
            const Elf64_Nhdr *note = (const void *)(file + part->p_offset + at);
            size_t data = sizeof(*note) + ((note->n_namesz + 3) & ~3u);
            if (note->n_type == XEN_ELFNOTE_PHYS32_ENTRY && !memcmp(note + 1, "Xen", 4))
                memcpy(&entry, (const uint8_t *)note + data, sizeof(entry));
            at += data + ((note->n_descsz + 3) & ~3u);
        }
    }
    need(entry != 0, "entry of the kernel");
    return entry;
}

static void load_rest(const char *initramfs, const char *line)
{
    size_t length;
    const void *data = map(initramfs, &length);
    uint64_t at = (size - length) & ~0xffful;
    memcpy(memory + at, data, length);
    strcpy((char *)memory + LINE_AT, line);
    struct hvm_modlist_entry module = {.paddr = at, .size = length};
    struct hvm_memmap_table_entry ram[] = {
        {.addr = 0, .size = 0x9f000, .type = XEN_HVM_MEMMAP_TYPE_RAM},
        {.addr = MIB, .size = size - MIB, .type = XEN_HVM_MEMMAP_TYPE_RAM},
    };
    struct hvm_start_info info = {
        .magic = XEN_HVM_START_MAGIC_VALUE,
        .version = 1,
        .nr_modules = 1,
        .modlist_paddr = TABLE_AT,
        .cmdline_paddr = LINE_AT,
        .memmap_paddr = TABLE_AT + sizeof(module),
        .memmap_entries = 2,
    };
    memcpy(memory + INFO_AT, &info, sizeof(info));
    memcpy(memory + TABLE_AT, &module, sizeof(module));
    memcpy(memory + TABLE_AT + sizeof(module), ram, sizeof(ram));
}

static void set_cpuid(int kvm, int cpu)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[100];
    } all = {.head.nent = 100};
    need(!ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &all), "KVM_GET_SUPPORTED_CPUID");
    for (uint32_t i = 0; i < all.head.nent; i++)
        if (all.entries[i].function == 1)
            all.entries[i].ecx |= 1u << 24; /* TSC deadline, which is not listed */
    need(!ioctl(cpu, KVM_SET_CPUID2, &all), "KVM_SET_CPUID2");
}

static void set_registers(int cpu, uint32_t entry)
{
    struct kvm_sregs s;
    need(!ioctl(cpu, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
    struct kvm_segment flat = {
        .limit = ~0u, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    s.ds = s.es = s.fs = s.gs = s.ss = s.cs = flat;
    s.cs.selector = 8;
    s.cs.type = 11;
    s.cr0 = 1;
    need(!ioctl(cpu, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
    struct kvm_regs r = {.rip = entry, .rbx = INFO_AT, .rflags = 2};
    need(!ioctl(cpu, KVM_SET_REGS, &r), "KVM_SET_REGS");
}

static void port(struct kvm_run *run)
{
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    if (run->io.direction == KVM_EXIT_IO_IN)
        memset(data,
               run->io.port == SERIAL + 5 ? LSR_IDLE
               : run->io.port == CLOCK    ? 0
                                          : 0xff,
               run->io.size * run->io.count);
    else if (run->io.port == SERIAL)
        need(write(1, data, 1) == 1, "output");
}

/* What Xen's guests expect: code for each call behind the address that they write to an MSR. */
static void hypercall_page(struct kvm_run *run)
{
    run->msr.error = run->msr.data > size - PAGE || run->msr.data % PAGE;
    for (uint8_t nr = 0; !run->msr.error && nr < PAGE / 32; nr++) {
        const uint8_t code[] = {0xb8, nr, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3}; /* mov, vmmcall, ret */
        memcpy(memory + run->msr.data + 32 * nr, code, sizeof(code));
    }
}

static void answer_hypercalls(int vm)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                 .args = {KVM_MSR_EXIT_REASON_UNKNOWN}};
    need(!ioctl(vm, KVM_ENABLE_CAP, &cap), "KVM_CAP_X86_USER_SPACE_MSR");
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 1;
    size = strtoul(argv[3], NULL, 0) * MIB;
    int kvm = open("/dev/kvm", O_RDWR);
    need(kvm >= 0, "/dev/kvm");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    need(vm >= 0 && !ioctl(vm, KVM_CREATE_IRQCHIP) && !ioctl(vm, KVM_CREATE_PIT2, &pit), "machine");
    /* All of it now, in huge pages, as Xen's tools give it. */
    memory = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    need(memory != MAP_FAILED, "memory");
    memory = (uint8_t *)(((uintptr_t)memory + HUGE - 1) & -HUGE);
    struct kvm_userspace_memory_region all = {.memory_size = size,
                                              .userspace_addr = (uintptr_t)memory};
    need(!ioctl(vm, KVM_SET_USER_MEMORY_REGION, &all), "KVM_SET_USER_MEMORY_REGION");
    int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    need(cpu >= 0, "KVM_CREATE_VCPU");
    set_cpuid(kvm, cpu);
    if (argc > 5)
        answer_hypercalls(vm);
    uint32_t entry = load_kernel(argv[1]);
    load_rest(argv[2], argv[4]);
    set_registers(cpu, entry);
    struct kvm_run *run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE,
                               MAP_SHARED, cpu, 0);
    need(run != MAP_FAILED, "vCPU");
    for (;;) {
        need(!ioctl(cpu, KVM_RUN, 0), "KVM_RUN");
        if (run->exit_reason == KVM_EXIT_IO)
            port(run);
        else if (run->exit_reason == KVM_EXIT_MMIO)
            memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
        else if (run->exit_reason == KVM_EXIT_X86_WRMSR)
            hypercall_page(run);
        else
            break;
    }
    printf("kvm: exit reason %u\n", run->exit_reason);
    return 1;
}
