// What scripts/gpu-check runs on a machine with a GPU; `usage` says what it can do.
import FlowTensor
import FlowTensorCPU
import FlowTensorCUDA
import Foundation

if CommandLine.arguments.dropFirst().contains(where: { ["--help", "-h", "help"].contains($0) }) {
  print(usage)
  exit(0)
}
var options = Options(CommandLine.arguments.dropFirst())
do {
  let isRight: Bool
  switch options.part {
  case "libraries": isRight = try checkLibraries(options)
  case "ops": isRight = try checkOps(options)
  case "train": isRight = try checkTraining(options)
  case "nccl": isRight = try checkExchange(options)
  case "train-vocoder": isRight = try checkVocoderTraining(options)
  case "train-until-killed": try trainUntilKilled(options)
  case "train-digest": isRight = try printTrainingDigest(options)
  case "faults": isRight = try checkFaults(options)
  case "fault-memory", "fault-compilation", "fault-loss":
    isRight = try makeFault(String(options.part.dropFirst("fault-".count)), options)
  case "speed": isRight = try timeCases(options)
  case "golden": isRight = try checkGolden(options)
  default: Options.fail("flow-gpu-check doesn't know '\(options.part)'")
  }
  exit(isRight ? 0 : 1)
} catch {
  Options.fail("\(error)")
}
