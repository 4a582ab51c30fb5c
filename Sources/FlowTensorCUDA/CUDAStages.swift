import CCUDA
import FlowTensor
import Foundation

/// Page-locked memory of the host.
private final class PinnedMemory {
  let start: UnsafeMutableRawPointer
  private let device: CUDADevice

  init(_ device: CUDADevice, bytes: Int) throws(TensorError) {
    self.device = device
    try device.use()
    var memory: UnsafeMutableRawPointer?
    // CU_MEMHOSTALLOC_PORTABLE
    let status = flow_cuMemHostAlloc(&memory, bytes, 1)
    guard status != 2 else {
      throw .outOfMemory(bytes: bytes, purpose: "what passes between host and device, page-locked")
    }
    try CUDADevice.check(status, "page-locking memory")
    guard let memory else { throw .device("CUDA gave no page-locked memory") }
    start = memory
  }

  deinit { if (try? device.use()) != nil { flow_cuMemFreeHost(start) } }
}

/// An event, by which streams and the host wait for what was put on a stream before.
private final class Mark {
  private let handle: UnsafeMutableRawPointer?
  private let device: CUDADevice

  init(_ device: CUDADevice) throws(TensorError) {
    self.device = device
    try device.use()
    var made: UnsafeMutableRawPointer?
    // CU_EVENT_DISABLE_TIMING
    try CUDADevice.check(flow_cuEventCreate(&made, 2), "making an event")
    handle = made
  }

  deinit { if (try? device.use()) != nil { flow_cuEventDestroy(handle) } }

  func record(_ stream: UnsafeMutableRawPointer?) throws(TensorError) {
    try CUDADevice.check(flow_cuEventRecord(handle, stream), "marking a place")
  }
  func holdBack(_ stream: UnsafeMutableRawPointer?) throws(TensorError) {
    try CUDADevice.check(flow_cuStreamWaitEvent(stream, handle, 0), "ordering streams")
  }
  func wait() throws(TensorError) {
    try CUDADevice.check(flow_cuEventSynchronize(handle), "running kernels")
  }
}

/// Inputs go from page-locked memory to the device on a stream of their own, and from there to their places between two
/// steps, at the speed of the device's memory.
final class CUDAInputStage: InputStage {
  private let device: CUDADevice
  private let stream: UnsafeMutableRawPointer?
  private let pinned: PinnedMemory
  private let arrival: CUDABuffer
  /// What was written has arrived; what had arrived was moved.
  private let (arrived, moved): (Mark, Mark)
  var bytes: Int { arrival.count * 4 }

  init(_ device: CUDADevice, _ count: Int) throws(TensorError) {
    self.device = device
    pinned = try PinnedMemory(device, bytes: max(16, count * 4))
    arrival = try CUDABuffer(device, count)
    (arrived, moved) = (try Mark(device), try Mark(device))
    // The device clears its memory first.
    try moved.record(device.stream)
    var made: UnsafeMutableRawPointer?
    // CU_STREAM_NON_BLOCKING
    try CUDADevice.check(flow_cuStreamCreate(&made, 1), "making a stream")
    stream = made
  }

  deinit {
    guard (try? device.use()) != nil else { return }
    flow_cuStreamSynchronize(stream)
    flow_cuStreamDestroy(stream)
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(TensorError) {
    precondition(offset * 4 + bytes.count <= arrival.count * 4, "writing past a stage")
    guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
    try device.use()
    // Until then the copy before it reads the page-locked memory.
    try arrived.wait()
    let from = pinned.start + offset * 4
    memcpy(from, start, bytes.count)
    try moved.holdBack(stream)
    try CUDADevice.check(
      flow_cuMemcpyHtoDAsync(arrival.address + UInt64(offset * 4), from, bytes.count, stream),
      "copying \(bytes.count) bytes to the device")
    try arrived.record(stream)
  }

  func move(_ count: Int, from offset: Int, to slot: Slot) throws(TensorError) {
    guard let buffer = slot.buffer as? CUDABuffer, count > 0 else { return }
    try device.use()
    try arrived.holdBack(device.stream)
    try CUDADevice.check(
      flow_cuMemcpyDtoDAsync(
        buffer.address + UInt64(slot.offset * 4), arrival.address + UInt64(offset * 4), count * 4,
        device.stream),
      "moving \(count) words")
    try moved.record(device.stream)
  }
}

/// Outputs go to page-locked memory after the step that makes them, and wait there.
final class CUDAOutputStage: OutputStage {
  private let device: CUDADevice
  private let count: Int
  private let pinned: PinnedMemory
  private let taken: Mark

  init(_ device: CUDADevice, _ count: Int) throws(TensorError) {
    self.device = device
    self.count = count
    pinned = try PinnedMemory(device, bytes: max(16, count * 4))
    taken = try Mark(device)
  }

  func take(_ count: Int, from slot: Slot, to offset: Int) throws(TensorError) {
    precondition(offset + count <= self.count, "writing past a stage")
    guard let buffer = slot.buffer as? CUDABuffer, count > 0 else { return }
    try device.use()
    try CUDADevice.check(
      flow_cuMemcpyDtoHAsync(
        pinned.start + offset * 4, buffer.address + UInt64(slot.offset * 4), count * 4, device.stream),
      "copying \(count) words from the device")
    try taken.record(device.stream)
  }

  func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(TensorError) {
    precondition(offset * 4 + bytes.count <= count * 4, "reading past a stage")
    guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
    try device.use()
    try taken.wait()
    memcpy(start, pinned.start + offset * 4, bytes.count)
  }
}
