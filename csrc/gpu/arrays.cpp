#include "arrays.h"

#include "on_device.h"

namespace gpu {

namespace {

const void* first_byte(const DLTensor& t) { return static_cast<const char*>(t.data) + t.byte_offset; }

struct Export {
  DLManagedTensor managed;
  std::vector<int64_t> shape;
  DevicePtr device;
  std::shared_ptr<void> owner;
};

void let_go(DLManagedTensor* managed) {
  Export* const it = static_cast<Export*>(managed->context);
  // Whoever used the array may have done so on another stream: only a device that stands still surely is done with it.
  try {
    use(it->device->number);
    wait_for_everything();
  } catch (const Error&) {
  }
  delete it;
}

}  // namespace

Part Borrowed::part(int64_t first) const {
  const DLTensor& t = tensor();
  const int64_t size = t.dtype.bits / 8;
  const Type type = t.dtype.code == BFLOATING ? Type::bfloat16
                    : size == 2 ? Type::float16
                    : size == 4 ? Type::float32 : Type::float64;
  const int64_t row = t.strides ? t.strides[0] : t.shape[1], column = t.strides ? t.strides[1] : 1;
  return {static_cast<const char*>(first_byte(t)), type, first, t.shape[0], row * size, column * size};
}

const void* Borrowed::checked(size_t size, uint8_t code) const {
  const DLTensor& t = tensor();
  int64_t step = 1;
  bool fits = t.device.type == ON_CUDA && t.dtype.code == code && t.dtype.bits == 8 * size && t.dtype.lanes == 1;
  for (int i = t.ndim - 1; i >= 0; step *= t.shape[i--]) fits &= !t.strides || t.shape[i] <= 1 || t.strides[i] == step;
  if (!fits) throw pybind11::value_error("an array on the device is not dense, or not of the expected type");
  return first_byte(t);
}

pybind11::capsule DeviceArray::dlpack() const {
  auto* const it = new Export{{}, shape, device_, owner_};
  it->managed = {{data_, {ON_CUDA, device_->number}, int32_t(it->shape.size()), type_, it->shape.data(), nullptr, 0}, it, let_go};
  return pybind11::capsule(&it->managed, "dltensor", [](PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // taken over
    auto* const managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    managed->deleter(managed);
  });
}

pybind11::array DeviceArray::numpy() const {
  const pybind11::dtype type(type_.code == FLOATING ? (size_ == 4 ? "float32" : "float64") : "int64");
  pybind11::array out(type, shape);
  void* const to = out.mutable_data();
  const size_t bytes = size_t(out.nbytes());
  on_device(device_, [out, to, bytes, from = data_, owner = owner_, device = device_](const StopFlag&) {
    use(device->number);
    device->download(to, from, bytes);
    return true;
  });
  return out;
}

}  // namespace gpu
