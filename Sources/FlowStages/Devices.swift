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
  private static let found = Result { () throws(TensorError) in try CUDABackend(precision: .float32) }

  /// What decides the results of the CUDA device, its precision aside; `nil` where there is none.
  public static var accelerator: String? {
    (try? found.get()).map { "\($0.summary), \(CUDALibraries.versions)" }
  }

  /// Why there is no CUDA device, if there is none.
  public static var problem: String? {
    if case .failure(let error) = found { "\(error)" } else { nil }
  }

  /// A backend.
  /// - Parameters:
  ///   - threads: of the CPU's.
  ///   - say: is told what `auto` has chosen, and why.
  /// - Throws: `TensorError.device` when there is no CUDA device and one is asked for.
  public static func backend(
    _ kind: DeviceKind, _ precision: DevicePrecision = .bfloat16, threads: Int,
    say: (String) -> Void = { _ in }
  ) throws(TensorError) -> any Backend {
    guard kind != .cpu else { return CPUBackend(threads: threads) }
    do throws(TensorError) {
      let backend = try CUDABackend(precision: CUDAPrecision(rawValue: precision.rawValue) ?? .bfloat16)
      say("computes on \(backend.summary) in \(precision.rawValue)")
      return backend
    } catch {
      guard kind == .auto else { throw error }
      say("computes on the CPU: \(error)")
      return CPUBackend(threads: threads)
    }
  }

  /// What was found of CUDA, for `flow doctor`.
  static func checks() -> [Libraries.Check] {
    var checks = CUDALibraries.report.map { library in
      // A machine without a GPU is as it may be.
      Libraries.Check(
        name: library.name, ok: true,
        detail: library.path.map { "\(library.version), \($0)" } ?? "none: \(library.problem ?? "not found")",
        help: nil)
    }
    checks.append(
      Libraries.Check(
        name: "cuda", ok: true,
        detail: accelerator ?? "no device, training runs on the CPU: \(problem ?? "")",
        help: nil))
    return checks
  }
}

extension StageContext {
  /// What a stage's parameters say to compute on.
  /// - Throws: `StageFailure`.
  func backend(_ kind: DeviceKind, _ precision: DevicePrecision) throws -> any Backend {
    do {
      return try Devices.backend(kind, precision, threads: threads, say: log)
    } catch {
      throw StageFailure(
        "there is no CUDA device: \(error)",
        help: "set 'device: cpu', or 'auto' for the CPU where there is no CUDA device")
    }
  }
}
