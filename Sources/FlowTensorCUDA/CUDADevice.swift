import CCUDA
import FlowTensor
import Foundation
import Synchronization

/// A device: its context and the one stream that all work goes through, in order. Handles are kept as numbers; they never
/// change, and the driver may be called from any thread. What a thread records goes through a stream of its own, so that
/// nothing of another thread's gets into it.
final class CUDADevice: Sendable {
  /// What it is.
  let description: CUDADescription
  /// NCCL's handle of the ranks that it speaks with; 0 for none.
  let ranks = Atomic<UInt>(0)
  private let context: UInt
  private let streamHandle: UInt
  private let product: UInt
  private struct Shared { weak var buffer: CUDABuffer? }
  private let shared = Mutex(Shared())

  var name: String { description.name }
  /// The driver's handle of it.
  var number: Int32 { description.number }
  /// Compute capability times ten, such as 90.
  var capability: Int { description.capability }
  var multiprocessors: Int { description.multiprocessors }
  /// Bytes of shared memory that a block may take.
  var sharedLimit: Int { description.sharedLimit }
  /// Bytes of the cache that all multiprocessors share.
  var cache: Int { description.cache }
  /// Bytes of its memory.
  var memory: Int { description.memory }

  @TaskLocal private static var recording: UInt?

  /// The stream; while the calling thread records, that of the recording.
  var stream: UnsafeMutableRawPointer? {
    UnsafeMutableRawPointer(bitPattern: CUDADevice.recording ?? streamHandle)
  }
  /// cuBLASLt's handle.
  var products: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: product) }

  /// How many devices this process can see.
  /// - Throws: `TensorError.device`.
  static func count() throws(TensorError) -> Int {
    for library in CUDALibraries.report {
      if let problem = library.problem { throw .device(CUDADevice.advice(library.name, problem)) }
    }
    try CUDADevice.check(flow_cuInit(0), "starting CUDA")
    var count: Int32 = 0
    try CUDADevice.check(flow_cuDeviceGetCount(&count), "counting devices")
    // CUDA_ERROR_NO_DEVICE
    if count == 0 { try CUDADevice.check(100, "counting devices") }
    return Int(count)
  }

  /// Device number `ordinal`.
  /// - Throws: `TensorError.device` that says what is missing and what to do.
  init(_ ordinal: Int) throws(TensorError) {
    description = try CUDADescription(ordinal)
    var handle: UnsafeMutableRawPointer?
    try CUDADevice.check(
      flow_cuDevicePrimaryCtxRetain(&handle, description.number), "opening a context on device \(ordinal)")
    context = UInt(bitPattern: handle)
    try CUDADevice.check(flow_cuCtxSetCurrent(handle), "taking the context of device \(ordinal)")
    handle = nil
    // CU_STREAM_NON_BLOCKING
    try CUDADevice.check(flow_cuStreamCreate(&handle, 1), "making a stream")
    streamHandle = UInt(bitPattern: handle)
    handle = nil
    let status = flow_cublasLtCreate(&handle)
    guard status == 0 else { throw .device("cuBLASLt could not start: status \(status)") }
    product = UInt(bitPattern: handle)
  }

  /// Makes the calling thread's calls go to this device.
  func use() throws(TensorError) {
    try CUDADevice.check(
      flow_cuCtxSetCurrent(UnsafeMutableRawPointer(bitPattern: context)), "taking the context")
  }

  /// Waits until all work is done.
  func synchronize() throws(TensorError) {
    try settle()
    try CUDADevice.check(flow_cuStreamSynchronize(stream), "running kernels")
  }

  /// Does `work`, in which `stream` is a new one, that nothing but this call uses.
  func recording(_ work: () throws(TensorError) -> Void) throws(TensorError) {
    var made: UnsafeMutableRawPointer?
    // CU_STREAM_NON_BLOCKING
    try CUDADevice.check(flow_cuStreamCreate(&made, 1), "making a stream")
    defer { flow_cuStreamDestroy(made) }
    var result = Result<Void, TensorError>.success(())
    CUDADevice.$recording.withValue(UInt(bitPattern: made)) {
      do throws(TensorError) { try work() } catch { result = .failure(error) }
    }
    try result.get()
  }

  /// Scratch memory of `count` words, which all programs use by turns: their steps go through one stream, and none needs what
  /// another left.
  func scratch(_ count: Int) throws(TensorError) -> (buffer: CUDABuffer, isNew: Bool) {
    if let known = shared.withLock({ $0.buffer }), known.count >= count { return (known, false) }
    let made: CUDABuffer
    do throws(TensorError) { made = try CUDABuffer(self, count) } catch {
      guard case .outOfMemory(let bytes, _) = error else { throw error }
      throw .outOfMemory(bytes: bytes, purpose: "the scratch memory of kernels")
    }
    shared.withLock { $0.buffer = made }
    return (made, true)
  }

  /// Bytes of the device's memory that are free, over all processes.
  func free() throws(TensorError) -> Int {
    try use()
    var (free, total) = (0, 0)
    try CUDADevice.check(flow_cuMemGetInfo(&free, &total), "asking for free memory")
    return free
  }

  private static func advice(_ library: String, _ problem: String) -> String {
    let next =
      switch library {
      case "libcuda":
        "It comes with NVIDIA's driver: is there a GPU, and is the driver visible in this container?"
      case "nvrtc": "`scripts/setup --cuda` installs it, or set FLOW_CUDA_PATH to its folder."
      default:
        "`pip install nvidia-cublas` in the active virtual environment, or the CUDA toolkit, brings it."
      }
    return "CUDA can't be used: \(problem). \(next) device: cpu needs none of it"
  }

  /// Throws what the driver's error `status` means, for `action`.
  static func check(_ status: Int32, _ action: @autoclosure () -> String) throws(TensorError) {
    guard status != 0 else { return }
    if status == 2 { throw .outOfMemory(bytes: 0) }
    func text(_ get: (Int32, UnsafeMutablePointer<UnsafePointer<CChar>?>) -> Int32) -> String? {
      var pointer: UnsafePointer<CChar>?
      return get(status, &pointer) == 0 ? pointer.map { String(cString: $0) } : nil
    }
    let name = text { flow_cuGetErrorName($0, $1) } ?? "error \(status)"
    let meaning = text { flow_cuGetErrorString($0, $1) }.map { ": " + $0 } ?? ""
    let advice =
      switch status {
      // CUDA_ERROR_NO_DEVICE, _INVALID_DEVICE
      case 100, 101:
        ". No usable GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES, or use device: cpu"
      // CUDA_ERROR_DEVICE_UNAVAILABLE
      case 46: ". Another process may hold the GPU alone (compute mode): wait for it, or choose another GPU"
      // CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, _COMPAT_NOT_SUPPORTED_ON_DEVICE, _STUB_LIBRARY
      case 803, 804, 34: ". The driver and its library don't fit each other: reinstall the driver or restart"
      // CUDA_ERROR_ECC_UNCORRECTABLE, _ILLEGAL_ADDRESS, _LAUNCH_TIMEOUT, _LAUNCH_FAILED, _UNKNOWN and their like
      case 214, 700, 702, 714...719, 721, 999:
        ". The device is lost to this process; the last checkpoint is as it was. Run again to go on from it"
      default: ""
      }
    throw .device("CUDA: \(action()): \(name)\(meaning)\(advice)")
  }
}
