/// Whose memory a parameter lies in.
public enum MemoryPlace: String, Sendable, Hashable, Codable, CaseIterable {
  /// The device's.
  case device
  /// The host's, where the device reads and writes it over the bus: slower, and none of the device's is taken.
  case host
}

extension Backend {
  /// Where memory lies that is wanted at `place`: a device that computes in the host's memory has no other.
  public func place(_ place: MemoryPlace) -> MemoryPlace { hasOwnMemory ? place : .device }
}

extension ParameterStore {
  /// Makes the float32 parameter `name`, of zeros.
  /// - Throws: `TensorError` when it is there already or memory runs out.
  public func make(_ name: String, _ shape: [Int], in place: MemoryPlace = .device) throws {
    guard buffers[name] == nil else {
      throw TensorError.parameter("there is a parameter '\(name)' already")
    }
    let place = backend.place(place)
    let count = DType.float32.words(shape.elements)
    let buffer: any DeviceBuffer
    do { buffer = try backend.makeBuffer(count, in: place) } catch TensorError.outOfMemory(let bytes, _) {
      let whose = place == .host ? ", page-locked in the host's memory" : ""
      throw TensorError.outOfMemory(bytes: bytes, purpose: "parameter '\(name)'\(whose)")
    }
    buffers[name] = (Slot(buffer: buffer, offset: 0), shape, .float32)
  }
}
