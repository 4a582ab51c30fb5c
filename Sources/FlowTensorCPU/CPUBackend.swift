import CKernels
import COpenBLAS
public import FlowTensor
import Foundation

/// The BLAS backend: OpenBLAS for matrix products, our own kernels for the rest, on a pool of threads. Results do not
/// depend on the number of threads.
public struct CPUBackend: Backend {
  /// The threads used.
  public let threads: Int
  /// `cpu`.
  public var name: String { "blas" }

  /// A backend on `threads` threads.
  public init(threads: Int = 1) {
    self.threads = max(1, threads)
  }

  /// See `Backend`.
  public func makeBuffer(_ count: Int) throws -> any DeviceBuffer { try HostBuffer(count) }

  /// See `Backend`.
  public func borrow(_ memory: BorrowedMemory) -> (any DeviceBuffer)? { HostBuffer(memory) }

  /// See `Backend`.
  public func prepare(_ steps: [Step]) throws -> any PreparedSteps { CPUSteps(try steps.map(kernel)) }
}

/// Kernels in order.
private final class CPUSteps: PreparedSteps {
  private let kernels: [() -> Void]
  init(_ kernels: [() -> Void]) { self.kernels = kernels }
  func run() { for kernel in kernels { kernel() } }
  func time(steps order: [Int], runs: Int) -> [Double] {
    (0..<runs).map { _ in
      let duration = ContinuousClock().measure { for index in order { kernels[index]() } }.components
      return Double(duration.seconds) + Double(duration.attoseconds) * 1e-18
    }
  }
}

/// Host memory: its own is 64-byte aligned, another's as it is.
final class HostBuffer: DeviceBuffer {
  let base: UnsafeMutablePointer<Float>
  let count: Int
  let keeper: (any MemoryKeeper)?

  /// Bytes that are the system's to take back; 0 when the memory is of the heap.
  private let mapped: Int

  init(_ count: Int) throws {
    let bytes = (max(1, count) * 4 + 63) / 64 * 64
    self.count = count
    keeper = nil
    if bytes >= 1 << 20 {
      // The system gives zeros page by page, as they are used: what never is costs nothing.
      let memory = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
      guard let memory, memory != MAP_FAILED else { throw TensorError.outOfMemory(bytes: bytes) }
      // Where the system has large pages, fewer are to be found; where not, nothing changes.
      madvise(memory, bytes, MADV_HUGEPAGE)
      base = memory.assumingMemoryBound(to: Float.self)
      mapped = bytes
    } else {
      guard let memory = aligned_alloc(64, bytes) else { throw TensorError.outOfMemory(bytes: bytes) }
      memset(memory, 0, bytes)
      base = memory.assumingMemoryBound(to: Float.self)
      mapped = 0
    }
  }

  /// Read where it lies; that no program writes there is seen to before.
  init?(_ memory: BorrowedMemory) {
    guard let start = memory.bytes.baseAddress else { return nil }
    base = UnsafeMutableRawPointer(mutating: start).assumingMemoryBound(to: Float.self)
    count = (memory.bytes.count + 3) / 4
    keeper = memory.keeper
    mapped = 0
  }

  deinit {
    if mapped > 0 {
      munmap(base, mapped)
    } else if keeper == nil {
      free(base)
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
    precondition(offset * 4 + bytes.count <= count * 4, "writing past a buffer")
    if let start = bytes.baseAddress { memcpy(base + offset, start, bytes.count) }
  }

  func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
    precondition(offset * 4 + bytes.count <= count * 4, "reading past a buffer")
    if let start = bytes.baseAddress { memcpy(start, base + offset, bytes.count) }
  }
}

extension CPUBackend {
  /// The BLAS that is loaded: its build and the kernels it chose.
  /// `nil` where it is missing; then plain loops compute.
  public static var library: String? {
    guard let config = flow_blas_config() else { return nil }
    let core = flow_blas_core().map { String(cString: $0) } ?? "unknown"
    return "\(String(cString: config)) (\(core))"
  }
}
