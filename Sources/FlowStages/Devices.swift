public import FlowCore
import FlowStageKit
public import FlowTensor
import FlowTensorCPU
import FlowTensorCUDA

/// What trainings and samplers compute on, where it can be chosen.
public enum DeviceKind: String, Decodable, Sendable, CaseIterable {
  /// This machine's processors.
  case cpu
  /// A CUDA device; an error where there is none.
  case cuda
  /// A CUDA device, or the processors where there is none.
  case auto
}

/// How a CUDA device computes; the processors compute in float32.
public enum DevicePrecision: String, Decodable, Sendable, CaseIterable { case float32, tf32, bfloat16 }

/// The one place that makes backends.
public enum Devices {
  private static let found = Result { () throws(TensorError) in try CUDADescription() }

  /// How many CUDA devices this process can see.
  public static var count: Int { (try? CUDABackend.count()) ?? 0 }

  /// What decides the results of `ranks` CUDA devices, their precision aside; `nil` where there is none, or nothing by which
  /// they would speak with each other.
  public static func accelerator(ranks: Int = 1) -> String? {
    guard let one = try? found.get() else { return nil }
    return name(one.summary, ranks: ranks)
  }

  private static func name(_ summary: String, ranks: Int) -> String? {
    let own = "\(summary), \(CUDALibraries.versions)"
    return ranks == 1 ? own : CUDABackend.exchange.map { "\(own), \($0)" }
  }

  /// What decides the results of a backend that `ranks` ranks compute on; `nil` when it isn't a CUDA device.
  static func name(of backend: any Backend, ranks: Int) -> String? {
    (backend as? CUDABackend).flatMap { name($0.summary, ranks: ranks) }
  }

  /// Why `ranks` ranks can't have CUDA devices, if they can't.
  public static func problem(ranks: Int = 1) -> String? {
    if case .failure(let error) = found { return "\(error)" }
    return ranks == 1 ? nil : CUDALibraries.nccl.problem.map(CUDABackend.advice)
  }

  /// A backend.
  /// - Parameters:
  ///   - threads: of the CPU's.
  ///   - ranks: those that compute together; all make their backends at once, and all get one of the same kind.
  ///   - say: is told what `auto` has chosen, and why.
  /// - Throws: `TensorError.device` when there is no CUDA device and one is asked for; what `ranks` throws; `RankPlacement`.
  public static func backend(
    _ kind: DeviceKind, _ precision: DevicePrecision = .bfloat16, threads: Int,
    ranks: any Communicator = SoleRank(), say: (String) -> Void = { _ in }
  ) throws -> any Backend {
    guard kind != .cpu else { return CPUBackend(threads: threads) }
    do {
      let precise = CUDAPrecision(rawValue: precision.rawValue) ?? .bfloat16
      let backend =
        try ranks.size == 1 ? CUDABackend(precision: precise) : CUDABackend(precision: precise, ranks: ranks)
      let others =
        ranks.size == 1 ? "" : ", one of \(ranks.size) that speak by \(CUDABackend.exchange ?? "NCCL")"
      say("computes on \(backend.summary) in \(precision.rawValue)\(others)")
      return backend
    } catch let error as TensorError {
      guard kind == .auto else { throw error }
      say("computes on the CPU: \(error)")
      return CPUBackend(threads: threads)
    }
  }

  /// What was found of CUDA, for `flow doctor`.
  static func checks() -> [Libraries.Check] {
    let nccl = CUDALibraries.nccl
    var checks = (CUDALibraries.report + [nccl]).map { library in
      let use = library.name == nccl.name ? " (only 'ranks' with 'device: cuda' needs it)" : ""
      // A machine without a GPU is as it may be.
      return Libraries.Check(
        name: library.name, ok: true,
        detail: (library.path.map { "\(library.version), \($0)" } ?? "none: \(library.problem ?? "not found")")
          + use,
        help: nil)
    }
    checks.append(
      Libraries.Check(
        name: "cuda", ok: true,
        detail: accelerator() ?? "no device, training runs on the CPU: \(problem() ?? "")",
        help: nil))
    return checks
  }
}

extension StageContext {
  /// What a stage's parameters say to compute on, which must be what its key names.
  /// - Throws: `StageFailure`.
  func backend(_ kind: DeviceKind, _ precision: DevicePrecision) throws -> any Backend {
    var kind = kind
    switch device {
    case .cuda: kind = .cuda
    case .cpu where kind == .auto:
      kind = .cpu
      log("computes on the CPU: \(Devices.problem(ranks: ranks.size) ?? "it was given no CUDA device")")
    case .cpu, nil: break
    }
    do {
      let backend = try Devices.backend(kind, precision, threads: threads, ranks: ranks, say: log)
      if case .cuda(let wanted)? = device {
        let found = Devices.name(of: backend, ranks: ranks.size)
        guard found == wanted else {
          throw StageFailure(
            "it runs on \(found ?? "the CPU"), and was planned for \(wanted), whose results have other last digits",
            help: "choose devices of one kind (--gpus, CUDA_VISIBLE_DEVICES), and run again")
        }
      }
      return backend
    } catch let error as RankPlacement {
      throw StageFailure("\(error)")
    } catch let error as TensorError {
      throw StageFailure(
        ranks.size == 1
          ? "it can't compute on a CUDA device: \(error)"
          : "\(ranks.size) ranks can't have CUDA devices: \(error)",
        help: "'device: cpu' needs none")
    }
  }
}
