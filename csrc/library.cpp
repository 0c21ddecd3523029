// Every op of the library. value, mu: [..., d]; kappa: [...]; batch dimensions broadcast. family is
// an index into families.h. Results have the broadcast batch shape and the dtype of kappa, float32
// or float64; value and mu may have less precision, and their gradients have theirs. A gradient
// whose bit (1 value, 2 mu, 4 kappa) is missing in `needs_grad` comes back empty; with bit 8 on the
// CPU those of value and mu come back summed to the shape of their operand.
#include "tensor.h"

namespace {
using namespace spherical;

const int registered = [] {
  TorchLibraryHandle library;
  TORCH_C(aoti_torch_library_init_def, "powerspherical_ext", __FILE__, __LINE__, &library);
  for (const char *schema : {
           "scalar_function(Tensor kappa, int d, int family, int function) -> Tensor",
           "kl(Tensor kappa_p, Tensor kappa_q, Tensor sin2, Tensor cos2, int d, int family_p, "
           "int family_q, int function) -> Tensor",
           "log_prob(Tensor value, Tensor mu, Tensor kappa, int family) -> Tensor",
           // log_prob, and whether in some row |value| is not 1 within the tolerance: bool, of
           // shape (); on the CPU alone
           "log_prob_on_sphere(Tensor value, Tensor mu, Tensor kappa, int family, float tolerance) "
           "-> (Tensor, Tensor)",
           "log_prob_backward(Tensor grad, Tensor value, Tensor mu, Tensor kappa, int family, "
           "int needs_grad) -> (Tensor, Tensor, Tensor)",
           "rsample(Tensor mu, Tensor kappa, Tensor rng_state, int family) -> Tensor",
           // the sample in the dtype of mu, and as it is before it is rounded to that
           "rsample_rounded(Tensor mu, Tensor kappa, Tensor rng_state, int family) "
           "-> (Tensor, Tensor)",
           "rsample_backward(Tensor grad, Tensor sample, Tensor mu, Tensor kappa, int family, "
           "int needs_grad) -> (Tensor, Tensor)",
           // the loss, and the gradients of pred, target and kappa. With a scale the first is the
           // sum of scale grad loss, which begins with `start`; without a grad, that is 1
           "vi_simsiam_loss(Tensor? grad, Tensor pred, Tensor target, Tensor kappa, int family, "
           "float beta, int needs_grad, float? scale=None, Tensor? start=None) "
           "-> (Tensor, Tensor, Tensor, Tensor)",
           // multiplies in place; reads and writes nothing where the factor is 1
           "scale_gradients_(Tensor(a!) pred, Tensor(b!) target, Tensor(c!) kappa, Tensor factor) "
           "-> ()",
           // whether |value| of [..., d] is 1 within the tolerance, and lower <= value < upper of
           // [...]: bool, for any floating-point dtype; on the CPU alone
           "on_sphere(Tensor value, float tolerance) -> Tensor",
           "in_interval(Tensor value, float lower, float upper) -> Tensor",
       })
    TORCH_C(aoti_torch_library_def, library, schema);
  return 0;
}();
} // namespace
