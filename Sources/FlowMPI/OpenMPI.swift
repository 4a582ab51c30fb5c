import CMPI
public import FlowCore
import Synchronization

/// What can go wrong between ranks.
public enum MPIError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Open MPI's library is not here, or another one is.
  case missing(String)
  /// A call failed.
  case failed(call: String, reason: String)
  /// This process is one of another number of ranks than it was told.
  case size(expected: Int, found: Int)

  /// What mends a missing library.
  public static let package = "sudo apt-get install openmpi-bin"

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .missing(let reason):
      "several ranks need Open MPI, which can't be opened: \(reason); \(MPIError.package)"
    case .failed(let call, let reason): "the ranks lost each other: \(call): \(reason)"
    case .size(let expected, let found):
      "this is one of \(found) ranks, not of \(expected): 'mpirun' must be Open MPI's (\(MPIError.package))"
    }
  }
}

/// The ranks that Open MPI's `mpirun` started, or `srun --mpi=pmix`.
public final class OpenMPI: Communicator {
  /// See `Communicator`.
  public let rank: Int
  /// See `Communicator`.
  public let size: Int
  /// MPI is entered by one thread at a time.
  private let turn = Mutex(())

  /// The library's version.
  /// - Throws: `MPIError.missing`.
  public static func version() throws(MPIError) -> String {
    try open()
    return text(flow_mpi_version)
  }

  private static func text(_ fill: (UnsafeMutablePointer<CChar>, Int32) -> Void) -> String {
    var buffer = [CChar](repeating: 0, count: 512)
    fill(&buffer, Int32(buffer.count))
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private static func open() throws(MPIError) {
    var isOpen = false
    let reason = text { isOpen = flow_mpi_open($0, $1) == 0 }
    guard isOpen else { throw .missing(reason) }
  }

  /// Joins the other ranks. A process can do this once.
  /// - Parameter count: how many there must be.
  /// - Throws: `MPIError`.
  public init(of count: Int) throws(MPIError) {
    try OpenMPI.open()
    var (rank, size): (Int32, Int32) = (0, 0)
    try OpenMPI.check("MPI_Init_thread", flow_mpi_start(&rank, &size))
    self.rank = Int(rank)
    self.size = Int(size)
    guard self.size == count else { throw .size(expected: count, found: self.size) }
  }

  private static func check(_ call: String, _ code: Int32) throws(MPIError) {
    guard code != 0 else { return }
    throw .failed(call: call, reason: text { flow_mpi_error(code, $0, $1) })
  }

  /// See `Communicator`.
  /// - Throws: `MPIError.failed`.
  public func sum(_ values: inout [Float]) throws {
    try turn.withLock { _ in
      try values.withUnsafeMutableBufferPointer { all in
        guard let base = all.baseAddress else { return }
        try OpenMPI.check("sum of \(all.count) values", flow_mpi_sum(base, all.count))
      }
    }
  }

  /// See `Communicator`.
  /// - Throws: `MPIError.failed`.
  public func broadcast(_ bytes: [UInt8]) throws -> [UInt8] {
    try turn.withLock { _ in
      var count = UInt64(bytes.count)
      try OpenMPI.check("broadcast", flow_mpi_broadcast(&count, MemoryLayout<UInt64>.size))
      var result = rank == 0 ? bytes : [UInt8](repeating: 0, count: Int(count))
      try result.withUnsafeMutableBytes { all in
        guard let base = all.baseAddress else { return }
        try OpenMPI.check("broadcast of \(all.count) bytes", flow_mpi_broadcast(base, all.count))
      }
      return result
    }
  }

  /// See `Communicator`.
  /// - Throws: `MPIError.failed`.
  public func barrier() throws {
    try turn.withLock { _ in try OpenMPI.check("barrier", flow_mpi_barrier()) }
  }

  /// See `Communicator`.
  /// - Throws: `MPIError.failed`.
  public func finish() throws {
    try turn.withLock { _ in try OpenMPI.check("MPI_Finalize", flow_mpi_finish()) }
  }

  /// See `Communicator`.
  public func abort() { flow_mpi_abort(1) }
}
