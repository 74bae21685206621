// Is this machine's KVM fit for a guest?  Facts only; what is fast enough is decided above.
#pragma once
#include <chrono>
#include <string>
#include <vector>

namespace guestwright::kvm {

struct ProbeStep {
  std::string name;  // "start", "sse2", "cmpxchg16b", "loop"
  bool ok = false;
  std::string fact = {};  // why not: the call, the exit, its suberror
  int error = 0;     // errno, where a call was refused
  std::string instruction = {};
  std::string registers = {};
};

struct ProbeReport {
  // Set when /dev/kvm does not even open.
  int openError = 0;
  std::vector<ProbeStep> steps;
  // Iterations a second of the same loop; guest is 0 where it did not run to its end.
  double guestRate = 0, nativeRate = 0;
  // Where the loop did not end: the guest is slower than this.
  double guestRateBelow = 0;
  double milliseconds = 0;
};

// Never throws, and is back soon after `limit`.
ProbeReport probe(std::chrono::milliseconds limit);

}  // namespace guestwright::kvm
