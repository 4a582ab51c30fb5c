import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCUDA
import Foundation

/// A training whose gradients go through NCCL, as its only rank: all that ranks do, but for what travels. Right when it gives
/// the bits of the same training without (in bfloat16, where gradients that travel are kept in float32, nearly its losses),
/// the same ones twice, and when it goes on from a checkpoint.
func checkExchange(_ options: Options) throws -> Bool {
  let library = CUDALibraries.nccl
  try options.record([
    "part": "nccl", "device": options.name, "what": "library", "ok": library.problem == nil,
    "version": library.version, "path": library.path ?? "", "problem": library.problem ?? "",
  ])
  guard library.problem == nil else { return false }
  func ranked() throws -> FlowTrainer {
    try smallTraining(options, CUDABackend(precision: options.precision, ranks: SoleRank()))
  }
  let (plain, one) = (try smallTraining(options, options.backend()), try ranked())
  try plain.loop.run()
  var saved: [UInt8] = []
  try one.loop.run { point in
    if point.step == options.steps / 2 { saved = try one.loop.checkpoint() }
  }
  let wanted = try bits(one)
  let off = zip(one.loop.history, plain.loop.history).map { abs($0.loss - $1.loss) / abs($1.loss) }
  let worst = Double(off.max() ?? .infinity)
  let isSame = try bits(plain) == wanted
  let isAsWithout = options.precision == .bfloat16 ? worst <= 5e-2 : isSame
  try options.record([
    "part": "nccl", "device": options.name, "what": "beside a training without ranks", "ok": isAsWithout,
    "same_bits": isSame, "worst": worst, "steps": options.steps, "last": one.loop.history.last?.loss ?? -1,
  ])
  let two = try ranked()
  try two.loop.run()
  let repeats = try bits(two) == wanted && two.loop.history == one.loop.history
  try options.record([
    "part": "nccl", "device": options.name, "what": "a second run, bit by bit", "ok": repeats,
  ])
  let resumed = try ranked()
  try resumed.loop.restore(Data(saved))
  try resumed.loop.run()
  let goesOn = try bits(resumed) == wanted && resumed.loop.history == one.loop.history
  try options.record([
    "part": "nccl", "device": options.name, "what": "resumed, bit by bit", "ok": goesOn,
  ])
  return isAsWithout && repeats && goesOn
}
