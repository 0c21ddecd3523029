// This file turns arguments of an op into compile-time choices: the dtype that a kernel computes in
// and the family. It also decodes which gradients are needed.
#pragma once
#include "families.h"
#include "tensor.h"
#include <cstring>
#include <memory>
#include <optional>

namespace spherical {

inline void check_float(const char *op, const Tensor &tensor) {
  if (tensor.dtype() != aoti_torch_dtype_float32() && tensor.dtype() != aoti_torch_dtype_float64())
    fail(std::string(op) + ": expected float32 or float64");
}

// Calls f(T{}) with the element type T of a float32 or float64 tensor.
template <class F> void dispatch_float(const char *op, const Tensor &tensor, const F &f) {
  check_float(op, tensor);
  if (tensor.dtype() == aoti_torch_dtype_float32())
    f(float{});
  else
    f(double{});
}

// Calls f(Family{}) for the family at position `index` of a list.
template <class F, class... Members>
void dispatch_family(const char *op, int64_t index, const F &f, List<Members...>) {
  int64_t position = 0;
  if (!((position++ == index && (f(Members{}), true)) || ...))
    fail(std::string(op) + ": no family has index " + std::to_string(index) + ", there are " +
         std::to_string(sizeof...(Members)));
}
template <class F> void dispatch_family(const char *op, int64_t index, const F &f) {
  dispatch_family(op, index, f, Families());
}

// The floating-point argument at position i of the stack.
inline double unpack_float(const StableIValue *stack, int i) {
  double value;
  std::memcpy(&value, &stack[i], sizeof value);
  return value;
}

// The optional arguments at position i of the stack. Torch hands over an address, which is to be
// deleted, of what it would hand over for an argument that is not optional.
inline std::unique_ptr<StableIValue> unpack_optional(const StableIValue *stack, int i) {
  return std::unique_ptr<StableIValue>(reinterpret_cast<StableIValue *>(stack[i]));
}
inline std::optional<Tensor> unpack_optional_tensor(const StableIValue *stack, int i) {
  const auto value = unpack_optional(stack, i);
  return value ? std::optional<Tensor>(*value) : std::nullopt;
}
inline std::optional<double> unpack_optional_float(const StableIValue *stack, int i) {
  const auto value = unpack_optional(stack, i);
  return value ? std::optional<double>(unpack_float(value.get(), 0)) : std::nullopt;
}

// The argument `needs_grad` of an op: the bits of NeedsGrad in Python.
struct NeedsGrad {
  bool value, mu, kappa; // value is the loss's target, and mu its pred
  bool summed;           // the gradient of an expanded vector is summed to the vector's own shape

  explicit NeedsGrad(StableIValue bits)
      : value(bits & 1), mu(bits & 2), kappa(bits & 4), summed(bits & 8) {}
};

} // namespace spherical
