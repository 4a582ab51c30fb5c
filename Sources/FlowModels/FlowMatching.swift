public import FlowTensor

/// The block-wise flow-matching objective (spec 4.7): the sequence [text | clean latents | noisy latents], where a noisy
/// block sees the text, the clean blocks before it, and itself.
public enum FlowMatching {
  /// Who may attend to whom, [B, 1, N, N] with N = text + 2·latents, bool: may attend. A row of
  /// latent padding sees itself too, so that no row is empty.
  /// - Parameters:
  ///   - textLengths: valid tokens per batch element.
  ///   - latentLengths: valid frames per batch element.
  public static func mask(
    textCount: Int, latentCount: Int, blockSize: Int, textLengths: [Int], latentLengths: [Int]
  ) throws(TensorError) -> HostTensor {
    let n = textCount + 2 * latentCount
    var values = [Bool](repeating: false, count: textLengths.count * n * n)
    for (b, (texts, latents)) in zip(textLengths, latentLengths).enumerated() {
      let known = min(latents, latentCount)
      for q in 0..<n {
        let row = (b * n + q) * n
        func allow(_ start: Int, _ keys: Range<Int>) {
          for key in keys.clamped(to: 0..<known) { values[row + start + key] = true }
        }
        for key in 0..<min(texts, textCount) { values[row + key] = true }
        if q >= textCount || texts == 0 { values[row + q] = true }
        guard q >= textCount else { continue }
        let first = (q - textCount) % latentCount / blockSize * blockSize
        if q < textCount + latentCount {
          allow(textCount, 0..<first + blockSize)
        } else {
          allow(textCount, 0..<first)
          allow(textCount + latentCount, first..<first + blockSize)
        }
      }
    }
    return try HostTensor(values, [textLengths.count, 1, n, n])
  }

  /// The tensors of one training step.
  public struct Batch {
    /// Token ids, int32 [B, text].
    public var text: Tensor
    /// Clean latents [B, L, channels].
    public var clean: Tensor
    /// Noisy latents [B, L, channels].
    public var noisy: Tensor
    /// Time of each noisy frame, [B, L].
    public var time: Tensor
    /// The velocity to learn, clean - noise, [B, L, channels].
    public var target: Tensor
    /// Style [B, cond].
    public var style: Tensor
    /// Who attends to whom, [B, 1, N, N].
    public var mask: Tensor
    /// 1 for frames that count, [B, L].
    public var valid: Tensor
    /// What is added to embedded latents, clean and noisy, [B, L, cond].
    public var addition: Tensor?
    /// The batch.
    public init(
      text: Tensor, clean: Tensor, noisy: Tensor, time: Tensor, target: Tensor, style: Tensor, mask: Tensor,
      valid: Tensor, addition: Tensor? = nil
    ) {
      self.text = text
      self.clean = clean
      self.noisy = noisy
      self.time = time
      self.target = target
      self.style = style
      self.mask = mask
      self.valid = valid
      self.addition = addition
    }
  }

  /// What a batch sends through the transformer: N = text + 2·latents tokens.
  public struct Sequence {
    /// Embedded tokens, then clean and noisy latents, [B, N, cond].
    public let embeddings: Tensor
    /// Their times, [B, N]: -1 text, 1 clean, t noisy.
    public let time: Tensor
    /// Their positions; those of both kinds of latents begin at 0.
    public let positions: [Int]
  }

  /// The sequence of a batch.
  public static func sequence(_ model: DiT, _ batch: Batch) throws(TensorError) -> Sequence {
    try model.config.check()
    guard batch.clean.rank == 3, batch.text.rank == 2 else {
      throw .shape(
        op: "flow matching", shapes: [batch.text.shape, batch.clean.shape],
        expected: "tokens are [B, text] and latents [B, L, channels]")
    }
    let (size, texts, latents) = (batch.clean.shape[0], batch.text.shape[1], batch.clean.shape[1])
    func embed(_ latents: Tensor) throws(TensorError) -> Tensor {
      let embedded = try model.embedLatents(latents)
      return if let addition = batch.addition { try embedded + addition } else { embedded }
    }
    let embeddings = try Tensor.concatenated(
      [model.embedText(batch.text), embed(batch.clean), embed(batch.noisy)], axis: 1)
    let known = [Float](repeating: -1, count: texts) + [Float](repeating: 1, count: latents)
    let fixed = try batch.clean.graph.constant(known, [1, texts + latents])
      .broadcast(to: [size, texts + latents])
    return Sequence(
      embeddings: embeddings, time: try Tensor.concatenated([fixed, batch.time], axis: 1),
      positions: Array(0..<texts) + Array(0..<latents) + Array(0..<latents))
  }

  /// What a batch gives.
  public struct Objective {
    /// The mean squared error of the velocity over valid frames and channels, a scalar.
    public let loss: Tensor
    /// The velocity of the noisy latents, [B, L, channels].
    public let velocity: Tensor
    /// The transformer's output for the whole sequence, such as the hidden state that REPA heads see.
    public let output: DiT.Output
  }

  /// Records the objective of a batch.
  public static func loss(_ model: DiT, _ batch: Batch) throws(TensorError) -> Objective {
    let sequence = try sequence(model, batch)
    let (size, latents) = (batch.clean.shape[0], batch.clean.shape[1])
    let rotary = try Rotary(
      batch.clean.graph, positions: sequence.positions, width: model.config.dim / model.config.heads)
    let output = try model(
      sequence.embeddings, time: sequence.time, style: batch.style, rotary: rotary, mask: batch.mask)
    let start = sequence.positions.count - latents
    let velocity = try output.velocity.sliced(axis: 1, from: start, count: latents)
    let weight = try batch.valid.reshaped([size, latents, 1])
    let error = try ((velocity - batch.target).square() * weight).total()
    let count = try batch.valid.total() * Float(model.config.melDim)
    return Objective(loss: try error / count, velocity: velocity, output: output)
  }
}
