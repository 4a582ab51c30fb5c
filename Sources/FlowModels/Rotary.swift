public import FlowTensor
import Foundation

/// Cosines and sines of the rotary positions, each [B or 1, N, 1, half a head's width].
public struct Rotary {
  private let cos: Tensor
  private let sin: Tensor

  /// Given tables.
  public init(cos: Tensor, sin: Tensor) {
    self.cos = cos
    self.sin = sin
  }

  /// The tables of `positions` for heads of `width` (spec 2.5): frequencies 10000^(-2j/width), j below half of it.
  public static func tables(_ positions: [Int], width: Int) -> (cos: [Float], sin: [Float]) {
    var (cosines, sines): ([Float], [Float]) = ([], [])
    for position in positions {
      for j in 0..<width / 2 {
        let frequency = 1 / powf(10000, Float(2 * j) / Float(width))
        let angle = Float(position) * frequency
        cosines.append(cosf(angle))
        sines.append(sinf(angle))
      }
    }
    return (cosines, sines)
  }

  /// The tables of `positions` as constants of `graph`.
  public init(_ graph: Graph, positions: [Int], width: Int) throws(TensorError) {
    let (cosines, sines) = Rotary.tables(positions, width: width)
    let shape = [1, positions.count, 1, width / 2]
    try self.init(cos: graph.constant(cosines, shape), sin: graph.constant(sines, shape))
  }

  /// x [B, N, H, width], rotated by position: x·cos + (−x₂, x₁)·sin.
  func callAsFunction(_ x: Tensor) throws(TensorError) -> Tensor { try x.rotated(cos: cos, sin: sin) }
}
