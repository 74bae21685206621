#include "kvm/probe-guest.h"

// The same bytes are copied into the guest and, for the loop, called by us: what is compared is then the very same code.
// Ports and addresses are those of probe-guest.h.
asm(R"(
  .pushsection .text
  .p2align 4
  .hidden gw_guest_begin, gw_guest_started, gw_guest_sse2, gw_guest_cmpxchg16b, gw_guest_loop, gw_guest_faults, gw_guest_end, gw_probe_loop
  .globl gw_guest_begin, gw_guest_started, gw_guest_sse2, gw_guest_cmpxchg16b, gw_guest_loop, gw_guest_faults, gw_guest_end, gw_probe_loop
gw_guest_begin:

gw_guest_started:                     # long mode is reached, and a port write arrives
  mov $0x600d, %eax
  jmp gw_guest_report

gw_guest_sse2:                        # integers and doubles: (7 + 1)^2 + 18.0 = 82
  mov $7, %eax
  movd %eax, %xmm0
  pshufd $0, %xmm0, %xmm0
  pcmpeqd %xmm1, %xmm1
  psubd %xmm1, %xmm0
  pmuludq %xmm0, %xmm0
  mov $0x10000, %esi
  movdqu %xmm0, 3(%rsi)
  movdqu 3(%rsi), %xmm2
  cvtdq2pd %xmm2, %xmm3
  mov $18, %eax
  cvtsi2sd %eax, %xmm4
  addsd %xmm4, %xmm3
  cvttsd2si %xmm3, %eax
  jmp gw_guest_report

gw_guest_cmpxchg16b:                  # {1, 2} becomes {3, 97}: their sum is 0x64
  mov $0x10000, %esi
  movq $1, (%rsi)
  movq $2, 8(%rsi)
  mov $1, %eax
  mov $2, %edx
  mov $3, %ebx
  mov $97, %ecx
  lock cmpxchg16b (%rsi)
  mov $0, %eax
  jnz gw_guest_report
  mov (%rsi), %rax
  add 8(%rsi), %rax
  jmp gw_guest_report

gw_guest_report:
  mov $0x500, %edx
  out %eax, %dx
1: hlt
  jmp 1b

gw_guest_loop:                        # asks how often, runs, reports; 0 ends it
  mov $0x504, %edx
  in %dx, %eax
  test %eax, %eax
  jz 1b
  mov %eax, %edi
  mov $0x10000, %esi
  call gw_probe_loop
  mov $0x500, %edx
  out %eax, %dx
  jmp gw_guest_loop

  .p2align 4
gw_probe_loop:                        # rdi: iterations, not 0; rsi: 4096 bytes; gives eax.  Changes rcx, rdx, rdi.
  xor %eax, %eax
  xor %ecx, %ecx
1:
  lea (%rcx,%rcx,4), %edx
  and $0xff8, %edx
  add (%rsi,%rdx), %rax
  imul $0x5851f42d, %rax, %rax
  mov %rax, (%rsi,%rdx)
  add $8, %ecx
  dec %rdi
  jnz 1b
  ret

  .p2align 4
gw_guest_faults:                      # one handler an exception, 16 bytes each: tells its number
  .set vector, 0
  .rept 32
  mov $vector, %eax
  mov $0x508, %edx
  out %eax, %dx
1: hlt
  jmp 1b
  .p2align 4
  .set vector, vector + 1
  .endr
gw_guest_end:
  .popsection
)");

extern "C" {
extern const uint8_t gw_guest_begin[], gw_guest_started[], gw_guest_sse2[], gw_guest_cmpxchg16b[], gw_guest_loop[], gw_guest_faults[], gw_guest_end[];
uint32_t gw_probe_loop(uint64_t iterations, uint8_t *buffer);
}

namespace guestwright::kvm::probe_guest {

namespace {
uint64_t offset(const uint8_t *symbol) { return static_cast<uint64_t>(symbol - gw_guest_begin); }
}  // namespace

std::span<const uint8_t> code() { return {gw_guest_begin, gw_guest_end}; }
uint64_t started() { return offset(gw_guest_started); }
uint64_t sse2() { return offset(gw_guest_sse2); }
uint64_t cmpxchg16b() { return offset(gw_guest_cmpxchg16b); }
uint64_t loop() { return offset(gw_guest_loop); }
uint64_t faultHandlers() { return offset(gw_guest_faults); }
uint32_t runLoop(uint64_t iterations, uint8_t *buffer) { return gw_probe_loop(iterations, buffer); }

}  // namespace guestwright::kvm::probe_guest
