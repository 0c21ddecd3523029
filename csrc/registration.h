// Registration of kernels with torch's dispatcher.
#pragma once
#include "tensor.h"

namespace spherical {

constexpr uint64_t kAbiVersion = (2ULL << 56) | (10ULL << 48); // behaves as built for torch 2.10

// Implementations("CPU").op("log_prob", kernel) registers a kernel for one dispatch key.
class Implementations {
public:
  explicit Implementations(const char *key) {
    TORCH_C(aoti_torch_library_init_impl, "powerspherical_ext", key, __FILE__, __LINE__, &library_);
  }
  Implementations &op(const char *name, void (*kernel)(StableIValue *, uint64_t, uint64_t)) {
    TORCH_C(torch_library_impl, library_, name, kernel, kAbiVersion);
    return *this;
  }

private:
  TorchLibraryHandle library_;
};

} // namespace spherical
