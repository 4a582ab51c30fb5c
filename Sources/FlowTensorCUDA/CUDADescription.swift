import CCUDA
public import FlowTensor

/// What a CUDA device is. To know it takes no context, and so none of the device's memory.
public struct CUDADescription: Sendable {
  /// Its name, such as `NVIDIA H200`.
  public let name: String
  /// Compute capability times ten, such as 90.
  public let capability: Int
  /// Bytes of its memory.
  public let memory: Int
  /// The driver's handle of it.
  let number: Int32
  let multiprocessors: Int
  /// Bytes of shared memory that a block may take.
  let sharedLimit: Int
  /// Bytes of the cache that all multiprocessors share.
  let cache: Int

  /// For a reader, such as `NVIDIA H200 (sm_90, 139 GiB)`.
  public var summary: String { "\(name) (sm_\(capability), \(memory >> 30) GiB)" }

  /// Device number `ordinal`, which flow can use.
  /// - Throws: `TensorError.device` that says what is missing and what to do.
  public init(_ ordinal: Int = 0) throws(TensorError) {
    let count = try CUDADevice.count()
    var version: Int32 = 0
    try CUDADevice.check(flow_cuDriverGetVersion(&version), "asking for the driver's version")
    guard version >= 12000 else {
      throw .device(
        "the NVIDIA driver supports CUDA \(version / 1000).\(version % 1000 / 10), which is too old: flow needs 12.0, "
          + "driver 525 or later. Update the driver, or use device: cpu")
    }
    let compiler = CUDALibraries.nvrtc.version
    if let major = Int(compiler.prefix { $0 != "." }), major > Int(version) / 1000 {
      throw .device(
        "the NVIDIA driver supports CUDA \(version / 1000).\(version % 1000 / 10), but NVRTC is \(compiler): its kernels "
          + "would not load. Update the driver, or install nvidia-cuda-nvrtc==\(version / 1000).*")
    }
    guard ordinal < count else {
      throw .device(
        "there is no CUDA device \(ordinal): this machine shows \(count) (see CUDA_VISIBLE_DEVICES)")
    }
    var device: Int32 = 0
    try CUDADevice.check(flow_cuDeviceGet(&device, Int32(ordinal)), "opening device \(ordinal)")
    number = device
    func attribute(_ number: Int32) throws(TensorError) -> Int {
      var value: Int32 = 0
      try CUDADevice.check(flow_cuDeviceGetAttribute(&value, number, device), "asking device \(ordinal)")
      return Int(value)
    }
    var text = [CChar](repeating: 0, count: 128)
    try CUDADevice.check(flow_cuDeviceGetName(&text, 127, device), "asking device \(ordinal) for its name")
    name = text.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR, _MULTIPROCESSOR_COUNT, _MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
    // _L2_CACHE_SIZE
    capability = try attribute(75) * 10 + attribute(76)
    multiprocessors = try attribute(16)
    sharedLimit = try attribute(97)
    cache = try attribute(38)
    guard capability >= 80 else {
      throw .device(
        "\(name) has compute capability \(capability / 10).\(capability % 10); flow needs 8.0 or later. Use device: cpu"
      )
    }
    var bytes = 0
    try CUDADevice.check(flow_cuDeviceTotalMem(&bytes, device), "asking device \(ordinal) for its memory")
    memory = bytes
  }
}
