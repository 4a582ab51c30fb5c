import FlowNN
public import FlowTensor

/// What a discriminator makes of a wave.
public struct Judgement {
  /// Scores [B, n]: 1 where the wave is taken for real, 0 where for generated.
  public let score: Tensor
  /// What its layers made of the wave, first to last.
  public let features: [Tensor]
}

/// Networks that tell real waves [B, 1, T] from generated ones, as BigVGAN trains its generator against them (spec 5.9).
public protocol Discriminator {
  /// A judgement of each of its parts.
  /// - Throws: `TensorError` when `wave` isn't [B, 1, T], or too short for a part.
  func callAsFunction(_ wave: Tensor) throws(TensorError) -> [Judgement]
}

/// The losses of least-squares adversarial training (Mao et al. 2017; Kong et al. 2020; spec 5.9); each is a scalar.
public enum AdversarialLoss {
  /// What the discriminators lower: real waves far from 1, generated ones far from 0.
  public static func discriminator(
    real: [Judgement], generated: [Judgement]
  ) throws(TensorError) -> Tensor {
    try sum(zip(real, generated)) { (pair) throws(TensorError) in
      try (1 - pair.0.score).square().mean() + pair.1.score.square().mean()
    }
  }

  /// What the generator lowers: generated waves far from 1.
  public static func generator(_ generated: [Judgement]) throws(TensorError) -> Tensor {
    try sum(generated) { (judgement) throws(TensorError) in try (1 - judgement.score).square().mean() }
  }

  /// How far the features of generated waves are from those of the real ones; twice the L1 distances, as published.
  public static func features(
    real: [Judgement], generated: [Judgement]
  ) throws(TensorError) -> Tensor {
    let pairs = zip(real, generated).flatMap { zip($0.features, $1.features) }
    return try sum(pairs) { (pair) throws(TensorError) in try (pair.0 - pair.1).abs().mean() * 2 }
  }

  private static func sum<S: Sequence>(
    _ items: S, _ value: (S.Element) throws(TensorError) -> Tensor
  ) throws(TensorError) -> Tensor {
    var total: Tensor?
    for item in items {
      let part = try value(item).reshaped([])
      total = if let total { try total + part } else { part }
    }
    guard let total else {
      throw .argument(op: "adversarial loss", problem: "there is no discriminator to judge the waves")
    }
    return total
  }
}

extension ParameterScope {
  /// The judgement of x [B, in, H, W] by `layers` of convolutions under `convs`, each with a leaky ramp, and a last one with
  /// `lastTaps` under `conv_post`. Features are those of the layers and the scores.
  func judgement(
    _ x: Tensor, _ layers: [(channels: Int, taps: [Int], geometry: ConvolutionShape2D)], lastTaps: [Int]
  ) throws(TensorError) -> Judgement {
    var features = [x]
    for (index, layer) in layers.enumerated() {
      let sum = try self["convs"][index].convolution2D(
        features[index], layer.channels, layer.taps, layer.geometry)
      try features.append(sum.leakyRelu(0.1))
    }
    let post = ConvolutionShape2D(padding: lastTaps.map { $0 / 2 })
    let score = try self["conv_post"].convolution2D(features[layers.count], 1, lastTaps, post)
    return Judgement(score: try score.flattened(), features: features.dropFirst() + [score])
  }

  /// A weight-normalised convolution of x [B, in, H, W] to `output` channels, under this scope. Weights begin as torch's
  /// do: their norm is √⅓ on average.
  func convolution2D(
    _ x: Tensor, _ output: Int, _ taps: [Int], _ geometry: ConvolutionShape2D
  ) throws(TensorError) -> Tensor {
    let fan = x.shape[1] * taps[0] * taps[1]
    return try record { () throws(TensorError) in
      let weight = try Vocoder.normalized(
        self, [output, x.shape[1]] + taps, .fanIn(fan), scale: .constant(0.577350269))
      return try x.conv2d(weight, parameter("bias", [output], .fanIn(fan)), geometry)
    }
  }
}

extension Tensor {
  /// Throws unless this is a wave [B, 1, T].
  func requireWave(_ op: String) throws(TensorError) {
    guard rank == 3, shape[1] == 1, shape[2] > 0 else {
      throw .shape(op: op, shapes: [shape], expected: "a wave is [B, 1, T]", path: graph.path)
    }
  }

  /// [B, ...] as [B, n].
  func flattened() throws(TensorError) -> Tensor { try reshaped([shape[0], -1]) }
}
