extension ParameterStore {
  /// Makes float32 parameters of zeros that lie one after the other in one piece of memory (each at a multiple of 16 elements),
  /// and that piece, flat, as the parameter `block`.
  /// - Throws: `TensorError` when one is there already or memory runs out.
  public func make(block: String, of parts: [(name: String, shape: [Int])]) throws {
    if let known = ([block] + parts.map(\.name)).first(where: { buffers[$0] != nil }) {
      throw TensorError.parameter("there is a parameter '\(known)' already")
    }
    let sizes = parts.map { ($0.shape.elements + 15) / 16 * 16 }
    let count = max(1, sizes.reduce(0, +))
    let buffer = try backend.makeBuffer(count, for: "the parameters of '\(block)'")
    buffers[block] = (Slot(buffer: buffer, offset: 0), [count], .float32)
    var offset = 0
    for (part, size) in zip(parts, sizes) {
      buffers[part.name] = (Slot(buffer: buffer, offset: offset), part.shape, .float32)
      offset += size
    }
  }

  /// Hands the float32 parameter `name` to `change` in flat pieces of at most `count` elements, in order, and keeps what it made
  /// of them.
  /// - Throws: `TensorError` when there is none of that type; what `change` throws.
  public func update(_ name: String, piece count: Int, _ change: (inout [Float]) throws -> Void) throws {
    let (slot, shape, dtype) = try slot(name)
    guard dtype == .float32 else {
      throw TensorError.parameter("parameter '\(name)' is \(dtype.rawValue), not float32")
    }
    guard slot.buffer.keeper == nil else {
      throw TensorError.parameter("parameter '\(name)' is read from where it lies, and can't be set")
    }
    var values: [Float] = []
    for start in stride(from: 0, to: shape.elements, by: count) {
      let size = min(count, shape.elements - start)
      if values.count != size { values = [Float](repeating: 0, count: size) }
      try values.withUnsafeMutableBytes { try slot.buffer.read($0, at: slot.offset + start) }
      try change(&values)
      try values.withUnsafeBytes { try slot.buffer.write($0, at: slot.offset + start) }
    }
  }
}
