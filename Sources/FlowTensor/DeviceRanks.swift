/// Ranks whose devices hand each other values without the host. Every call is collective: all ranks make the same calls in the
/// same order.
public protocol DeviceRanks: Sendable {
  /// Which of the ranks this is, from 0.
  var rank: Int { get }
  /// How many there are.
  var size: Int { get }
  /// Gives the words of each part as its owner has them to all. They are there for whatever the device does next.
  /// - Throws: `TensorError.device` when a rank is lost.
  func broadcast(_ parts: [(slot: Slot, words: Int, owner: Int)]) throws(TensorError)
}

extension ParameterStore {
  /// Gives all ranks of the device the parameters as their owners have them.
  /// - Throws: `TensorError` when there is no such parameter, or a rank is lost.
  package func share(_ parameters: [(name: String, owner: Int)]) throws {
    try backend.ranks?.broadcast(
      parameters.map { parameter in
        let (slot, shape, dtype) = try slot(parameter.name)
        return (slot, dtype.words(shape.elements), parameter.owner)
      })
  }

  /// The float32 parameter `name` of that shape, which the rank `owner` alone has, on all ranks, or on the first alone and `nil` on
  /// the others.
  /// - Throws: `TensorError` when it hasn't, memory runs out, or a rank is lost.
  package func get(
    _ name: String, _ shape: [Int], of owner: Int, onFirstAlone: Bool = false
  ) throws -> HostTensor? {
    guard let ranks = backend.ranks, ranks.size > 1 else { return try get(name) }
    // A copy: what the optimiser keeps may lie in the host's memory.
    let place = Slot(
      buffer: try backend.makeBuffer(max(1, shape.elements), for: "a copy of '\(name)'"), offset: 0)
    let own = try owner == ranks.rank ? get(name) : nil
    if let own { try place.buffer.write(own, at: 0) }
    try ranks.broadcast([(place, shape.elements, owner)])
    if onFirstAlone, ranks.rank > 0 { return nil }
    return try own ?? place.buffer.read(shape, .float32, at: 0)
  }
}
