import CCUDA
import FlowTensor

/// Memory of a CUDA device.
final class CUDABuffer: DeviceBuffer {
  let device: CUDADevice
  let address: UInt64
  let count: Int

  /// `count` words of zeros.
  /// - Throws: `TensorError.outOfMemory`, `.device`.
  init(_ device: CUDADevice, _ count: Int) throws(TensorError) {
    self.device = device
    self.count = count
    try device.use()
    var found: UInt64 = 0
    let bytes = max(16, count * 4)
    let status = flow_cuMemAlloc(&found, bytes)
    // CUDA_ERROR_OUT_OF_MEMORY
    guard status != 2 else { throw .outOfMemory(bytes: bytes) }
    try CUDADevice.check(status, "taking memory")
    address = found
    do throws(TensorError) {
      try CUDADevice.check(flow_cuMemsetD32Async(found, 0, bytes / 4, device.stream), "clearing memory")
    } catch {
      flow_cuMemFree(found)
      throw error
    }
  }

  deinit {
    // Frees after the work that was given before; a lost device has lost its memory too.
    if (try? device.use()) != nil { flow_cuMemFree(address) }
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(TensorError) {
    precondition(offset * 4 + bytes.count <= count * 4, "writing past a buffer")
    guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
    try device.use()
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
    try CUDADevice.check(
      flow_cuMemcpyDtoHAsync(start, address + UInt64(offset * 4), bytes.count, device.stream),
      "copying \(bytes.count) bytes from the device")
    try device.synchronize()
  }
}
