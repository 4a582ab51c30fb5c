/// What of the submitter's environment goes with work to other machines: to a cluster's jobs, and to ranks that `mpirun`
/// starts there. It is what decides on the last digits of results, and where libraries and compiled kernels lie; all else
/// is as it is on those machines.
enum JobEnvironment {
  /// Variables that go with it.
  static let names = [
    "CUDA_HOME", "CUDA_PATH", "FLOW_CUDA_PATH", "FLOW_KERNEL_CACHE", "FLOW_TRIALS", "LD_LIBRARY_PATH",
    "VIRTUAL_ENV", "XDG_CACHE_HOME",
  ]
  /// So do all whose names begin so. (`CUDA_VISIBLE_DEVICES` doesn't: which GPUs a job has, the cluster says.)
  static let prefixes = ["NCCL_", "OPENBLAS_"]

  /// Those of `environment`, by name.
  static func selection(of environment: [String: String]) -> [(name: String, value: String)] {
    environment.filter { name, _ in
      names.contains(name)
        || prefixes.contains(where: name.hasPrefix) && name.wholeMatch(of: #/[A-Z0-9_]+/#) != nil
    }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }
}
