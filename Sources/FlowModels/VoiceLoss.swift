import FlowNN
import FlowTensor

/// What predicted latents must still say of the voice: its phones in their order, and its pitch. Small networks read both from
/// latents; they learn from the true ones as well, and are not part of the model. The prediction is where the noisy latents
/// arrive on a straight way at the predicted velocity: x + (1 - t) v.
struct VoiceLoss {
  /// Where the networks' parameters are.
  static let scope = "heads"
  /// Parts of a latent frame that each have a phone: more phones come than the five frames of a second.
  static let steps = 8
  /// Width of the layers between.
  private static let hidden = 64

  let scope: ParameterScope
  /// Latents that frames count in, [B, L].
  let known: Tensor
  /// All frames that count for the flow-matching loss, a scalar.
  let count: Tensor

  /// [B, L, channels] -> [B, L, outputs].
  private func head(_ name: String, _ x: Tensor, _ outputs: Int) throws(TensorError) -> Tensor {
    let part = scope[name]
    let first = try Linear(part[0], x.shape[2], VoiceLoss.hidden)(x).silu()
    return try Linear(part[2], VoiceLoss.hidden, outputs)(first)
  }

  /// Nats per part of a frame by which the phones `labels` (int32 [B, U]) are missed, a scalar.
  func alignment(_ latents: Tensor, labels: Tensor, isLabelled: Tensor) throws(TensorError) -> Tensor {
    let (batch, frames, classes) = (latents.shape[0], latents.shape[1], LyricTokens.phoneCount + 1)
    let steps = VoiceLoss.steps
    let scores = try head("phones", latents, steps * classes).reshaped([batch, frames * steps, classes])
    let valid = try known.reshaped([batch, frames, 1]).broadcast(to: [batch, frames, steps])
      .reshaped([batch, frames * steps])
    let losses = try scores.ctcLoss(labels, valid: valid)
    return try (losses * isLabelled).total() / (count * Float(steps))
  }

  /// How far voicing (in nats) and pitch (in octaves, squared) are from `truth`, the features of `SongConditions`
  /// [B, L, 2 · slots], per part of a frame; a scalar.
  func pitch(_ latents: Tensor, truth: Tensor, isKnown: Tensor) throws(TensorError) -> Tensor {
    let (batch, frames, slots) = (latents.shape[0], latents.shape[1], SongConditions.slots)
    let shape = [batch, frames, slots, 1]
    let found = try head("pitch", latents, 2 * slots).reshaped([batch, frames, slots, 2])
    let wanted = try truth.reshaped([batch, frames, slots, 2])
    func part(_ x: Tensor, _ index: Int) throws(TensorError) -> Tensor {
      try x.sliced(axis: 3, from: index, count: 1).reshaped(shape)
    }
    let (logit, share) = (try part(found, 0), try part(wanted, 0))
    let voicing = try logit.softplus() - share * logit
    // The truth is the octaves times the voiced share.
    let distance = try (part(found, 1) * share - part(wanted, 1)).square()
    let weight = try known.reshaped([batch, frames, 1, 1]) * isKnown.reshaped([batch, 1, 1, 1])
    return try ((voicing + distance) * weight).total() / (count * Float(slots))
  }
}
