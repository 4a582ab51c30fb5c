// The kernels of a module, for the library that launches them by name.
#define SHIM_VISIBLE __attribute__((visibility("default")))

struct shim_entry {
  const char *name;
  void (*call)(void **arguments);
  const unsigned *sizes;
  unsigned count, threads;
};
template <size_t...> struct shim_numbers {};
template <size_t n, size_t... rest> struct shim_count : shim_count<n - 1, n - 1, rest...> {};
template <size_t... all> struct shim_count<0, all...> {
  typedef shim_numbers<all...> type;
};
template <class... A, size_t... i> void shim_apply(void (*kernel)(A...), void **arguments, shim_numbers<i...>) {
  kernel(*(A *)arguments[i]...);
}
template <class... A> void shim_apply(void (*kernel)(A...), void **arguments) {
  shim_apply(kernel, arguments, typename shim_count<sizeof...(A)>::type());
}
template <class T> struct shim_signature;
template <class... A> struct shim_signature<void(A...)> {
  static constexpr unsigned count = sizeof...(A);
  static constexpr unsigned sizes[count + 1] = {sizeof(A)..., 0};
};
template <class... A> constexpr unsigned shim_signature<void(A...)>::sizes[];

#define SHIM_ENTRY(kernel, bound) \
  {#kernel, [](void **arguments) { shim_apply(kernel, arguments); }, shim_signature<decltype(kernel)>::sizes, \
   shim_signature<decltype(kernel)>::count, (unsigned)(bound)},

extern "C" __attribute__((weak, visibility("hidden"))) char __start_shim_shared[], __stop_shim_shared[];
extern "C" SHIM_VISIBLE void shim_shared_bounds(char **start, char **stop) {
  *start = __start_shim_shared, *stop = __stop_shim_shared;
}
