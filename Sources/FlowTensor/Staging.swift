/// Memory through which a program's next inputs reach a device beside what it computes.
public protocol InputStage: AnyObject {
  /// Bytes of the device's memory that it takes.
  var bytes: Int { get }
  /// Begins to copy `bytes` to the words from `offset`, once what lay there is moved.
  /// - Throws: `TensorError.device` when the device is lost.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(TensorError)
  /// Moves `count` words from `offset` to `slot`, before what the device is given to do next.
  /// - Throws: `TensorError.device` when the device is lost.
  func move(_ count: Int, from offset: Int, to slot: Slot) throws(TensorError)
}

/// Memory through which a program's outputs reach the host while the device goes on to compute other things.
public protocol OutputStage: AnyObject {
  /// Begins to copy `count` words from `slot` to those from `offset`, after what the device was given to do.
  /// - Throws: `TensorError.device` when the device is lost.
  func take(_ count: Int, from slot: Slot, to offset: Int) throws(TensorError)
  /// Fills `bytes` from the words from `offset`, once all that was taken is there.
  /// - Throws: `TensorError.device` when the device is lost or its work failed.
  func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(TensorError)
}

/// A program's inputs: where they lie, what was last put there, and what is on its way.
struct ProgramInputs {
  fileprivate struct Input {
    let name: String
    let slot: Slot
    let shape: [Int]
    let dtype: DType
    /// The size of the smallest table that it indexes, if it does.
    let limit: Int?
    /// The first word in the stage.
    let offset: Int
    var count: Int { dtype.words(shape.elements) }
    /// What lies there, and what is on its way; kept so that their memory is no one else's.
    var last: HostTensor?
    var next: HostTensor?
  }
  private var inputs: [Input] = []
  private var count = 0
  private var stage: (any InputStage)?
  private var hasNoStage = false

  /// Bytes of what they are staged in.
  var stageBytes: Int { stage?.bytes ?? 0 }

  /// Adds the input `name`, which lies in `slot`.
  mutating func add(_ name: String, _ slot: Slot, _ shape: [Int], _ dtype: DType, limit: Int?) {
    let input = Input(name: name, slot: slot, shape: shape, dtype: dtype, limit: limit, offset: count)
    inputs.append(input)
    // At a multiple of 256 bytes, as memory of its own is.
    count += (input.count + 63) / 64 * 64
  }

  /// Puts the values where they belong.
  /// - Throws: `TensorError.input` when one is missing, or isn't what is wanted.
  mutating func put(_ values: [String: HostTensor]) throws(TensorError) {
    for (index, input) in inputs.enumerated() {
      guard let value = values[input.name] else {
        throw TensorError.input("no value for input '\(input.name)'")
      }
      try input.checkKind(value)
      let next = input.next
      inputs[index].next = nil
      // No step writes to an input: what lies there from the last run needs no copy.
      if let last = input.last, last.isSameMemory(as: value) { continue }
      inputs[index].last = nil
      if let next, next.isSameMemory(as: value), let stage {
        try stage.move(input.count, from: input.offset, to: input.slot)
      } else {
        try input.checkIndices(value)
        try input.slot.buffer.write(value, at: input.slot.offset)
      }
      inputs[index].last = value
    }
  }

  /// Begins to bring values of the next run to the device; those that it isn't given are left to that run.
  /// - Throws: `TensorError.input` when one isn't what is wanted.
  mutating func stage(_ values: [String: HostTensor], on backend: any Backend) throws {
    if stage == nil, !hasNoStage {
      stage = try backend.makeInputStage(count)
      hasNoStage = stage == nil
    }
    guard let stage else { return }
    for (index, input) in inputs.enumerated() {
      guard let value = values[input.name] else { continue }
      try input.checkKind(value)
      if let last = input.last, last.isSameMemory(as: value) { continue }
      try input.checkIndices(value)
      inputs[index].next = nil
      try value.withBytes { (bytes) throws(TensorError) in try stage.write(bytes, at: input.offset) }
      inputs[index].next = value
    }
  }
}

extension ProgramInputs.Input {
  fileprivate func checkKind(_ value: HostTensor) throws(TensorError) {
    guard value.shape == shape else {
      throw TensorError.input("input '\(name)' has shape \(value.shape), not \(shape)")
    }
    guard value.dtype == dtype else {
      throw TensorError.input("input '\(name)' must be \(dtype.rawValue), not \(value.dtype.rawValue)")
    }
  }

  fileprivate func checkIndices(_ value: HostTensor) throws(TensorError) {
    guard case .int32(let values) = value.values, let limit,
      let bad = values.first(where: { $0 < 0 || Int($0) >= limit })
    else { return }
    throw TensorError.input("input '\(name)' has the index \(bad), outside 0..<\(limit)")
  }
}
