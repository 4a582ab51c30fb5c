import CCUDA
import FlowTensor
import Foundation

/// Memory that a CUDA device works in: its own, or the host's, page-locked and mapped. Addresses are kept as numbers, which
/// never change.
final class CUDABuffer: DeviceBuffer, Sendable {
  let device: CUDADevice
  let address: UInt64
  let count: Int
  /// Where the host sees memory of its own.
  private let hostAddress: UInt
  private var host: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: hostAddress) }

  /// `count` words of zeros.
  /// - Throws: `TensorError.outOfMemory`, `.device`.
  init(_ device: CUDADevice, _ count: Int, in place: MemoryPlace = .device) throws(TensorError) {
    self.device = device
    self.count = count
    try device.use()
    let bytes = max(16, count * 4)
    (address, hostAddress) =
      try place == .host ? CUDABuffer.mapped(bytes) : (CUDABuffer.own(bytes, device), 0)
  }

  private static func own(_ bytes: Int, _ device: CUDADevice) throws(TensorError) -> UInt64 {
    var found: UInt64 = 0
    let status = flow_cuMemAlloc(&found, bytes)
    // CUDA_ERROR_OUT_OF_MEMORY
    guard status != 2 else { throw .outOfMemory(bytes: bytes) }
    try CUDADevice.check(status, "taking memory")
    do throws(TensorError) {
      try CUDADevice.check(flow_cuMemsetD32Async(found, 0, bytes / 4, device.stream), "clearing memory")
    } catch {
      flow_cuMemFree(found)
      throw error
    }
    return found
  }

  private static func mapped(_ bytes: Int) throws(TensorError) -> (address: UInt64, host: UInt) {
    var memory: UnsafeMutableRawPointer?
    // CU_MEMHOSTALLOC_PORTABLE, _DEVICEMAP
    let status = flow_cuMemHostAlloc(&memory, bytes, 1 | 2)
    guard status != 2 else { throw .outOfMemory(bytes: bytes) }
    try CUDADevice.check(status, "page-locking memory")
    var found: UInt64 = 0
    do throws(TensorError) {
      try CUDADevice.check(
        flow_cuMemHostGetDevicePointer(&found, memory, 0), "mapping the host's memory")
    } catch {
      flow_cuMemFreeHost(memory)
      throw error
    }
    if let memory { memset(memory, 0, bytes) }
    return (found, UInt(bitPattern: memory))
  }

  deinit {
    // Frees after the work that was given before; a lost device has lost its memory too.
    guard (try? device.use()) != nil else { return }
    if let host {
      // Unlike the device's, the host's memory isn't waited for.
      try? device.synchronize()
      flow_cuMemFreeHost(host)
    } else {
      flow_cuMemFree(address)
    }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(TensorError) {
    precondition(offset * 4 + bytes.count <= count * 4, "writing past a buffer")
    guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
    try device.use()
    if let host {
      // What the device was given to do before may read it.
      try device.synchronize()
      memcpy(host + offset * 4, start, bytes.count)
      return
    }
    // Of memory that isn't page-locked, the driver has its own copy when this returns.
    try CUDADevice.check(
      flow_cuMemcpyHtoDAsync(address + UInt64(offset * 4), start, bytes.count, device.stream),
      "copying \(bytes.count) bytes to the device")
  }

  /// Copies `words` to its start.
  func write(words: [UInt64]) throws(TensorError) {
    var result = Result<Void, TensorError>.success(())
    words.withUnsafeBytes { bytes in
      do throws(TensorError) { try write(bytes, at: 0) } catch { result = .failure(error) }
    }
    try result.get()
  }

  func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(TensorError) {
    precondition(offset * 4 + bytes.count <= count * 4, "reading past a buffer")
    guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
    try device.use()
    if let host {
      try device.synchronize()
      memcpy(start, host + offset * 4, bytes.count)
      return
    }
    try device.settle()
    try CUDADevice.check(
      flow_cuMemcpyDtoHAsync(start, address + UInt64(offset * 4), bytes.count, device.stream),
      "copying \(bytes.count) bytes from the device")
    try device.synchronize()
  }
}
