import CCUDA
import FlowTensor
import Foundation
import Synchronization

/// Ranks whose devices hand each other values by NCCL, on the stream that all else goes through or in the graph that is
/// recorded from it.
final class CUDARanks: DeviceRanks {
  /// What is done with a stretch of words.
  enum Kind: Hashable {
    /// The sum of floats, for one rank.
    case reduce(owner: Int)
    /// The sum of floats, for all.
    case sum
    /// One rank's words, for all.
    case broadcast(owner: Int)
  }
  /// A stretch of words and what is done with it.
  struct Call {
    let kind: Kind
    let from, to: UInt64
    let words: Int
  }

  let rank: Int
  let size: Int
  private let device: CUDADevice
  private let handle: UInt

  /// The ranks that know `id`, of which this is number `rank`. All come here at once.
  /// - Throws: `TensorError.device`.
  init(_ device: CUDADevice, id: [UInt8], rank: Int, size: Int) throws(TensorError) {
    (self.device, self.rank, self.size) = (device, rank, size)
    // One way of adding, whatever the size: which rank's number comes first then depends on nothing but the machine.
    setenv("NCCL_ALGO", "Ring", 0)
    // Nothing is kept of memory that a graph no longer uses.
    setenv("NCCL_GRAPH_REGISTER", "0", 0)
    try device.use()
    var name = flow_nccl_id()
    withUnsafeMutableBytes(of: &name) { $0.copyBytes(from: id.prefix($0.count)) }
    var found: UnsafeMutableRawPointer?
    try CUDARanks.check(
      flow_ncclCommInitRank(&found, Int32(size), name, Int32(rank)), "joining \(size) ranks")
    handle = UInt(bitPattern: found)
    device.ranks.store(handle, ordering: .relaxed)
    // Connections are made at the first use, which can't be while a graph is recorded.
    let first = try CUDABuffer(device, 64)
    try enqueue([Call(kind: .sum, from: first.address, to: first.address, words: 64)])
    try device.synchronize()
  }

  deinit {
    device.ranks.store(0, ordering: .relaxed)
    flow_ncclCommDestroy(UnsafeMutableRawPointer(bitPattern: handle))
  }

  /// What ranks find each other by, made by one of them.
  static func makeID() throws(TensorError) -> [UInt8] {
    var name = flow_nccl_id()
    try check(flow_ncclGetUniqueId(&name), "making a name for the ranks")
    return withUnsafeBytes(of: &name) { Array($0) }
  }

  func broadcast(_ parts: [(slot: Slot, words: Int, owner: Int)]) throws(TensorError) {
    try device.use()
    var calls: [Call] = []
    for part in parts {
      guard let buffer = part.slot.buffer as? CUDABuffer else {
        throw .device("a value that is to be shared is not in the device's memory")
      }
      let address = buffer.address + UInt64(part.slot.offset * 4)
      calls.append(Call(kind: .broadcast(owner: part.owner), from: address, to: address, words: part.words))
    }
    try enqueue(calls)
  }

  /// Puts the calls on the stream, as one piece of work.
  func enqueue(_ calls: [Call]) throws(TensorError) {
    let (stream, ranks) = (device.stream, UnsafeMutableRawPointer(bitPattern: handle))
    // ncclUint32, ncclFloat32, ncclSum
    let (words, floats, add): (Int32, Int32, Int32) = (3, 7, 0)
    try CUDARanks.check(flow_ncclGroupStart(), "beginning an exchange")
    var status: Int32 = 0
    for call in calls where call.words > 0 && status == 0 {
      switch call.kind {
      case .reduce(let owner):
        status = flow_ncclReduce(call.from, call.to, call.words, floats, add, Int32(owner), ranks, stream)
      case .sum: status = flow_ncclAllReduce(call.from, call.to, call.words, floats, add, ranks, stream)
      case .broadcast(let owner):
        status = flow_ncclBroadcast(call.from, call.to, call.words, words, Int32(owner), ranks, stream)
      }
    }
    let end = flow_ncclGroupEnd()
    try CUDARanks.check(status == 0 ? end : status, "an exchange between ranks")
  }

  /// Every exchange writes here, as it were: all ranks make them in one order.
  static let turn: Range<UInt64> = 1..<2

  /// What `op` exchanges; `nil` when it is none of the ranks'.
  static func calls(_ op: any Op, _ c: StepContext) -> [Call]? {
    func call(_ kind: Kind, _ index: Int) -> Call {
      let (x, y) = (c.inputs[index], c.outputs[index])
      return Call(kind: kind, from: x.address, to: y.address, words: x.count)
    }
    switch op {
    case let op as RankReduce: return op.owners.enumerated().map { call(.reduce(owner: $1), $0) }
    case is RankSum: return [call(.sum, 0)]
    default: return nil
    }
  }

  /// Throws what NCCL's status means, for `action`.
  static func check(_ status: Int32, _ action: @autoclosure () -> String) throws(TensorError) {
    guard status != 0 else { return }
    let meaning = flow_ncclGetErrorString(status).map { String(cString: $0) } ?? "error \(status)"
    let detail = flow_ncclGetLastError(nil).map { String(cString: $0) } ?? ""
    throw .device("NCCL: \(action()): \(meaning)\(detail.isEmpty ? "" : ": \(detail)")")
  }
}

extension CUDADevice {
  /// Waits until all work is done, as one of several ranks: those whose peer is lost would wait for ever.
  func settle() throws(TensorError) {
    guard let handle = UnsafeMutableRawPointer(bitPattern: ranks.load(ordering: .relaxed)) else { return }
    for turn in 0... {
      let status = flow_cuStreamQuery(stream)
      var lost: Int32 = 0
      flow_ncclCommGetAsyncError(handle, &lost)
      // ncclInProgress
      if lost != 0, lost != 7 {
        flow_ncclCommAbort(handle)
        do throws(TensorError) { try CUDARanks.check(lost, "a rank is lost") } catch {
          throw .device("\(error). The last checkpoint is as it was. Run again to go on from it")
        }
      }
      // CUDA_ERROR_NOT_READY
      guard status == 600 else { return try CUDADevice.check(status, "running kernels") }
      if turn > 5000 { usleep(20) }
    }
  }
}
