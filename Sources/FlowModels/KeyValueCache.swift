import FlowNN
public import FlowTensor

/// Keys and values of earlier tokens, [B, heads, rows, width] per layer, in the device's memory.
public struct KeyValueCache {
  let layers: [(keys: Tensor, values: Tensor)]
  let place: Tensor

  /// The cache in a graph.
  /// - Parameters:
  ///   - layers: parameters that hold it.
  ///   - place: the row, int32 [1], that those of a pass go to from.
  public init(_ layers: [(keys: Tensor, values: Tensor)], place: Tensor) {
    self.layers = layers
    self.place = place
  }

  /// Keeps those of a pass; all that are kept then.
  func put(_ keys: Tensor, _ values: Tensor, layer: Int) throws(TensorError) -> (keys: Tensor, values: Tensor)
  {
    func put(_ kept: Tensor, _ new: Tensor) throws(TensorError) -> Tensor {
      let all = try kept.replacing(2, with: new.cast(to: kept.dtype), at: place)
      try kept.graph.assign(kept, all)
      return all
    }
    return (keys: try put(layers[layer].keys, keys), values: try put(layers[layer].values, values))
  }
}
