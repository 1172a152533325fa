// Lets autograd run backward over tensors of a CUDA device that is not there. Its engine asks torch's CUDA hooks whether
// the device has a context, and without a GPU that question raises. These hooks answer yes; all else they leave as torch
// has it where it is built without CUDA.
#include <ATen/detail/CUDAHooksInterface.h>

namespace {

struct FakeHooks final : at::CUDAHooksInterface {
  explicit FakeHooks(at::CUDAHooksArgs) {}
  bool isBuilt() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

std::unique_ptr<at::CUDAHooksInterface> make_hooks(at::CUDAHooksArgs args) {
  return std::make_unique<FakeHooks>(args);
}

}  // namespace

// True if torch uses these hooks from now on. It must be called before torch is imported, which asks for its own.
extern "C" bool take_the_place_of_cuda() {
  at::CUDAHooksRegistry()->Register("CUDAHooks", make_hooks, c10::REGISTRY_PREFERRED);
  return dynamic_cast<const FakeHooks*>(&at::detail::getCUDAHooks()) != nullptr;
}
