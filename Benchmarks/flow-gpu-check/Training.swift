import FlowCore
import FlowModels
import FlowNN
import FlowTensor
import FlowTensorCPU
import FlowTensorCUDA
import Foundation

/// The same small training, of whatever device.
func smallTraining(
  _ options: Options, _ backend: any Backend, state: MemoryPlace = .device
) throws -> FlowTrainer {
  var settings = FlowTraining.tiny(steps: options.steps)
  settings.maxFrames = 60
  settings.validateEvery = options.steps
  var random = Philox(seed: options.seed, label: "songs")
  let songs = try (0..<4).map { index in
    let frames = 43 + index
    let values = (0..<frames * settings.model.melDim).map { _ in Float(random.normal()) }
    return FlowSong(
      latents: try HostTensor(values, [frames, settings.model.melDim]),
      tokens: (0..<20).map { Int32(1 + ($0 * 7 + index) % 300) },
      style: (0..<settings.model.condDim).map { _ in Float(random.normal()) })
  }
  return try FlowTrainer(
    settings, songs: songs, validation: [], seed: options.seed, backend: backend, state: state)
}

/// A small training of a vocoder against discriminators.
private func smallVocoder(_ options: Options, _ backend: any Backend) throws -> VocoderTrainer {
  var settings = VocoderTraining.tiny(steps: options.steps)
  settings.trained = .decoder
  settings.latentWeight = 0
  // At 2e-3 a millionth more of the wave is 1 % of the loss after 40 steps, on one device: its losses are of signs.
  settings.optimizer.learningRate = 1e-5
  settings.validateEvery = options.steps
  settings.adversarial = AdversarialTraining(
    weight: 1, featureWeight: 1, waves: DiscriminatorConfig(channelMultiplier: 1 / 32))
  var random = Philox(seed: options.seed, label: "wave")
  let wave = (0..<settings.vocoder.hop * 12).map {
    0.3 * sin(Float($0) * 0.05) + 0.1 * Float(random.normal())
  }
  return try VocoderTrainer(settings, songs: [wave], validation: [], seed: options.seed, backend: backend)
}

func bits(_ trainer: FlowTrainer) throws -> [String: [UInt32]] {
  try trainer.loop.weights().mapValues { $0.floats.map(\.bitPattern) }
}

/// Runs both: right when the losses are the same within the precision's bound.
private func compare(
  _ what: String, _ one: TrainingLoop, _ truth: TrainingLoop, _ options: Options
) throws -> Bool {
  let bounds: [CUDAPrecision: Double] = [.float32: 1e-4, .tf32: 5e-3, .bfloat16: 5e-2]
  let bound = bounds[options.precision, default: 1e-4]
  try truth.run()
  try one.run()
  let off = zip(one.history, truth.history).map { abs($0.loss - $1.loss) / abs($1.loss) }
  let worst = Double(off.max() ?? .infinity)
  try options.record([
    "part": "train", "device": options.name, "what": what, "steps": options.steps, "ok": worst <= bound,
    "worst": worst, "bound": bound, "first": one.history.first?.loss ?? -1,
    "last": one.history.last?.loss ?? -1, "last_cpu": truth.history.last?.loss ?? -1,
  ])
  return worst <= bound
}

/// Right when a vocoder's losses are those of the CPU within the precision's bound.
func checkVocoderTraining(_ options: Options) throws -> Bool {
  let one = try smallVocoder(options, options.backend())
  let truth = try smallVocoder(options, CPUBackend(threads: 4))
  return try compare("vocoder's losses beside the CPU's", one.loop, truth.loop, options)
}

/// Right when the losses are those of the CPU within the precision's bound, and a second run, one with its state on the host,
/// and one that was killed and resumed give the same bits.
func checkTraining(_ options: Options) throws -> Bool {
  let one = try smallTraining(options, options.backend())
  let truth = try smallTraining(options, CPUBackend(threads: 4))
  let isClose = try compare("losses beside the CPU's", one.loop, truth.loop, options)
  let wanted = try bits(one)
  let two = try smallTraining(options, options.backend())
  try two.loop.run()
  let isSame = try bits(two) == wanted && two.loop.history == one.loop.history
  try options.record([
    "part": "train", "device": options.name, "what": "a second run, bit by bit", "ok": isSame,
  ])
  let away = try smallTraining(options, options.backend(), state: .host)
  try away.loop.run()
  let isSameAway = try bits(away) == wanted && away.loop.history == one.loop.history
  try options.record([
    "part": "train", "device": options.name, "what": "state on the host, bit by bit", "ok": isSameAway,
  ])
  let resumed = try resume(options)
  let goesOn = try bits(resumed.trainer) == wanted && resumed.trainer.loop.history == one.loop.history
  try options.record([
    "part": "train", "device": options.name, "what": "killed and resumed, bit by bit", "ok": goesOn,
    "from_step": resumed.step,
  ])
  return isClose && isSame && isSameAway && goesOn
}

/// A training that goes on from what another process left behind when it was killed.
private func resume(_ options: Options) throws -> (trainer: FlowTrainer, step: Int) {
  let path = NSTemporaryDirectory() + "/flow-gpu-check-\(ProcessInfo.processInfo.processIdentifier)"
  defer { try? FileManager.default.removeItem(atPath: path) }
  let child = Process()
  child.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
  child.arguments = [
    "train-until-killed", "--device", options.device, "--precision", options.precision.rawValue, "--seed",
    "\(options.seed)", "--steps", "\(options.steps)", "--out", path,
  ]
  try child.run()
  let end = Date().addingTimeInterval(120)
  while !FileManager.default.fileExists(atPath: path), child.isRunning, Date() < end { usleep(20_000) }
  kill(child.processIdentifier, SIGKILL)
  child.waitUntilExit()
  let data = try Data(contentsOf: URL(fileURLWithPath: path))
  let trainer = try smallTraining(options, options.backend())
  try trainer.loop.restore(data)
  let step = trainer.loop.nextStep
  try trainer.loop.run()
  return (trainer, step)
}

/// Trains, and leaves a checkpoint of the middle step at `--out`; then waits to be killed.
func trainUntilKilled(_ options: Options) throws -> Never {
  let trainer = try smallTraining(options, options.backend())
  try trainer.loop.run { point in
    guard point.step == options.steps / 2 else { return }
    let bytes = Data(try trainer.loop.checkpoint())
    try bytes.write(to: URL(fileURLWithPath: options.output), options: .atomic)
  }
  while true { sleep(1) }
}
