// What scripts/gpu-check runs on a machine with a GPU; each part appends lines of JSON to a file as it goes:
//   flow-gpu-check libraries            what was found of CUDA, and the device
//   flow-gpu-check ops                  every op against its reference in double precision
//   flow-gpu-check train                the same training on the CPU and the device, twice, and killed and resumed
//   flow-gpu-check train-vocoder        a small vocoder's training on the CPU and the device
//   flow-gpu-check faults               what is said of no memory, a lost device and the like, and what is whole after
//   flow-gpu-check nccl                 the same training with its gradients going through NCCL, of one rank, bit by bit
//   flow-gpu-check golden FOLDER        PyTorch's numbers
//   flow-gpu-check speed                the cases of Benchmarks/cuda/peer.py: --cases LIST, --budget SECONDS, --tiny, --runs N, --profile
// Options: --device cuda|blas, or for trainings' speed plan: what a device's memory would hold (all steps with --profile); --precision float32|tf32|bfloat16, --seed N, --steps N, --only TEXT, --every N, --out FILE.
// Exit code 1: something is wrong; 2: it could not be run.
import FlowTensor
import FlowTensorCPU
import FlowTensorCUDA
import Foundation

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
