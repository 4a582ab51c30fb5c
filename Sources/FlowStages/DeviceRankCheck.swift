public import FlowCore
import FlowStageKit
import FlowTensor
import FlowTensorCUDA

extension Devices {
  /// Sees whether what the ranks' CUDA devices say to each other arrives: sums of `count` numbers, of which `value` gives
  /// one by rank and place. What came of it, for a reader; `nil` where no rank has a CUDA device.
  /// - Throws: `StageFailure` when a sum is wrong; what `ranks` throws.
  public static func check(
    _ ranks: any Communicator, count: Int, _ value: (Int, Int) -> Float
  ) throws -> String? {
    guard try ranks.sum(accelerator() == nil ? 0 : 1) > 0 else { return nil }
    let backend: CUDABackend
    do { backend = try CUDABackend(precision: .float32, ranks: ranks) } catch let error as TensorError {
      return "not their CUDA devices: \(error)"
    } catch let error as RankPlacement { return "not their CUDA devices: \(error)" }
    let graph = Graph()
    let own = try graph.input("own", [count])
    let owner = ranks.size - 1
    let program = try Program(
      graph,
      outputs: ["all": own.summedOverRanks(), "one": graph.reduced([own + 0], owners: [owner])[0]],
      parameters: ParameterStore(backend))
    let given = try HostTensor((0..<count).map { value(ranks.rank, $0) }, [count])
    let (first, again) = (try program.run(["own": given]), try program.run(["own": given]))
    guard let all = first["all"]?.floats, all == again["all"]?.floats, let one = first["one"]?.floats else {
      throw StageFailure("rank \(ranks.rank): the same sum on CUDA devices has other bits the second time")
    }
    for place in 0..<count {
      // Not in the order of the ranks, but within what that can make of it.
      let parts = (0..<ranks.size).map { Double(value($0, place)) }
      let (sum, size) = (parts.reduce(0, +), parts.reduce(0) { $0 + abs($1) })
      for found in ranks.rank == owner ? [all[place], one[place]] : [all[place]]
      where !(abs(Double(found) - sum) <= 1e-6 * size) {
        throw StageFailure("rank \(ranks.rank): a sum on CUDA devices is \(found), not \(sum)")
      }
    }
    return "so do their CUDA devices (\(CUDABackend.exchange ?? "NCCL"), \(backend.summary))"
  }
}
