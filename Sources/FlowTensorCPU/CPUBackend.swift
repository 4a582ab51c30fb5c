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
  public func prepare(_ steps: [Step]) throws -> [() -> Void] { try steps.map(kernel) }
}

/// Host memory, 64-byte aligned.
final class HostBuffer: DeviceBuffer {
  let base: UnsafeMutablePointer<Float>
  let count: Int

  init(_ count: Int) throws {
    let bytes = (max(1, count) * 4 + 63) / 64 * 64
    guard let memory = aligned_alloc(64, bytes) else { throw TensorError.outOfMemory(bytes: bytes) }
    memset(memory, 0, bytes)
    base = memory.assumingMemoryBound(to: Float.self)
    self.count = count
  }

  deinit { free(base) }

  func write(_ values: UnsafeBufferPointer<Float>, at offset: Int) {
    precondition(offset + values.count <= count, "writing past a buffer")
    if let start = values.baseAddress { (base + offset).update(from: start, count: values.count) }
  }

  func write(_ values: [Int32], at offset: Int) {
    precondition(offset + values.count <= count, "writing past a buffer")
    values.withUnsafeBytes { from in
      if let start = from.baseAddress { memcpy(base + offset, start, from.count) }
    }
  }

  func read(_ count: Int, at offset: Int) -> [Float] {
    precondition(offset + count <= self.count, "reading past a buffer")
    return Array(UnsafeBufferPointer(start: base + offset, count: count))
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
