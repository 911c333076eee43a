/*
 * User mode: the iret hypercall with a code selector of RPL 3 goes there, onto the page table of
 * MMUEXT_NEW_USER_BASEPTR. Ours shares the top slot with the kernel's, so user code of a test is
 * simply code of the image.
 */
#include "guest.h"

uint64_t *user_l4;
uint8_t user_stack[4096] __attribute__((aligned(4096)));

void user_setup(void)
{
    if (user_l4)
        return;
    user_l4 = page_alloc();
    user_l4[511] = *pt_entry((void *)VIRT_BASE, 4);
    CHECK_EQ(map_ro(user_l4), 0);
    CHECK_EQ(mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(user_l4)), 0);
    CHECK_EQ(mmuext(MMUEXT_NEW_USER_BASEPTR, mfn_of(user_l4)), 0);
    CHECK_EQ(HC(stack_switch, FLAT_KERNEL_SS, (uint64_t)this_cpu() + STACK_SIZE / 2), 0);
}

void user_regs(struct regs *regs, const void *code)
{
    memset(regs, 0, sizeof(*regs));
    regs->rip = (uint64_t)code;
    regs->cs = FLAT_USER_CS64;
    regs->rflags = 0x202;
    regs->rsp = (uint64_t)user_stack + sizeof(user_stack) - 64;
    regs->ss = FLAT_USER_SS;
}

void user_run(struct regs *regs, uint64_t flags)
{
    struct cpu *cpu = this_cpu();

    trap_forget();
    regs->error = flags;
    if (context_save(&cpu->user_back) == 0) {
        cpu->in_user = true;
        regs_load(regs);
    }
    *regs = cpu->user_exit;
}
