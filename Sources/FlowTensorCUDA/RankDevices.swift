import CCUDA
public import FlowCore
public import FlowTensor
import Foundation

/// Ranks lie on machines so that they can't have the devices that they need.
public struct RankPlacement: Error, CustomStringConvertible {
  /// Why, for a reader.
  public let description: String
}

extension CUDABackend {
  /// A backend on this rank's own GPU, which speaks with those of the others: among the GPUs that this machine shows, the one with
  /// the rank's number on the machine. All ranks come here at once.
  /// - Parameter ranks: they find each other through them; one that is alone speaks with itself.
  /// - Throws: `TensorError.device` that says what is missing, also when another rank has none; `RankPlacement` when two have the
  ///   same GPU, or GPUs of two kinds; what `ranks` throws.
  public init(precision: CUDAPrecision = .bfloat16, ranks: any Communicator) throws {
    let local = CUDABackend.localRank(ranks)
    let found = Result<CUDABackend, TensorError> { () throws(TensorError) in
      if let problem = CUDALibraries.nccl.problem { throw .device(CUDABackend.advice(problem)) }
      return try CUDABackend(device: local % CUDADevice.count(), precision: precision)
    }
    let ready = try ranks.sum((try? found.get()) == nil ? 0 : 1)
    let own = try found.get()
    guard Int(ready) == ranks.size else {
      throw TensorError.device("\(ranks.size - Int(ready)) of \(ranks.size) ranks have no CUDA device")
    }
    try CUDABackend.tellApart(ranks, local, own.device)
    let id = try ranks.broadcast(ranks.rank == 0 ? CUDARanks.makeID() : [])
    self.init(
      own, ranks: try CUDARanks(own.device, id: id, rank: ranks.rank, size: ranks.size))
  }

  /// How many devices this process can see.
  /// - Throws: `TensorError.device` that says what is missing.
  public static func count() throws(TensorError) -> Int { try CUDADevice.count() }

  /// What the ranks' gradients are added up by, and its version; `nil` when there is none.
  public static var exchange: String? {
    CUDALibraries.nccl.problem == nil ? "nccl \(CUDALibraries.nccl.version)" : nil
  }

  /// What a missing NCCL means.
  public static func advice(_ problem: String) -> String {
    "several ranks on CUDA devices need NCCL: \(problem). `pip install nvidia-nccl-cu13` (or -cu12) in the active virtual "
      + "environment brings it; device: cpu needs none"
  }

  /// This rank's number among those of its machine, as the launcher says.
  private static func localRank(_ ranks: any Communicator) -> Int {
    let environment = ProcessInfo.processInfo.environment
    let names = ["OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"]
    return names.lazy.compactMap { environment[$0].flatMap { Int($0) } }.first { $0 >= 0 } ?? ranks.rank
  }

  /// Sees that no two ranks have one GPU, and all of one kind.
  private static func tellApart(_ ranks: any Communicator, _ local: Int, _ device: CUDADevice) throws {
    var uuid = [UInt8](repeating: 0, count: 16)
    try CUDADevice.check(flow_cuDeviceGetUuid(&uuid, device.number), "asking a device who it is")
    func padded(_ text: String) -> [UInt8] {
      let bytes = Array(text.utf8.prefix(48))
      return bytes + [UInt8](repeating: 0, count: 48 - bytes.count)
    }
    // A machine and its device, and what kind it is: 112 bytes of each rank.
    let own = padded(ProcessInfo.processInfo.hostName) + uuid + padded(device.name)
    var all = [Float](repeating: 0, count: own.count * ranks.size)
    for (index, byte) in own.enumerated() { all[ranks.rank * own.count + index] = Float(byte) }
    try ranks.sum(&all)
    let known = (0..<ranks.size).map { Array(all[$0 * own.count..<($0 + 1) * own.count]) }
    let (place, kind) = (64, 64..<112)
    for (rank, other) in known.enumerated() {
      if let twin = known[..<rank].firstIndex(where: { $0.prefix(place) == other.prefix(place) }) {
        let here = known.count { $0.prefix(48) == other.prefix(48) }
        throw RankPlacement(
          description:
            "ranks \(twin) and \(rank) have the same GPU: \(here) ranks run on a machine that shows them "
            + "\(try CUDADevice.count()), and each needs its own. Set 'ranks' to the number of GPUs, or have it see more "
            + "(--gpus, CUDA_VISIBLE_DEVICES)")
      }
      guard other[kind] == known[0][kind] else {
        let name = String(decoding: other[kind].prefix { $0 != 0 }.map { UInt8($0) }, as: UTF8.self)
        let first = String(decoding: known[0][kind].prefix { $0 != 0 }.map { UInt8($0) }, as: UTF8.self)
        throw RankPlacement(
          description: "rank \(rank) has a \(name), the first a \(first): ask for machines of one kind")
      }
    }
  }
}
