import FlowNN
import FlowStageKit
import FlowTensor
import FlowTensorCUDA

/// The memory that a stage's training has, and what is said of it.
struct TrainingMemory {
  private let backend: any Backend
  private let state: MemoryPlace
  private let context: StageContext

  /// Of a training on `backend`, whose optimiser's state is to lie in `state`.
  init(_ backend: any Backend, _ state: MemoryPlace, _ context: StageContext) {
    self.backend = backend
    self.state = state
    self.context = context
  }

  /// What there is: of the device's memory, or what the stage was given.
  private func available() throws -> AvailableMemory {
    guard let cuda = backend as? CUDABackend else {
      return AvailableMemory(device: context.memory, host: context.memory)
    }
    let (free, total) = try cuda.memory()
    context.log(
      "the device's memory: \(MemoryNeed.text(total - free)) in use before the training, its context included"
    )
    return AvailableMemory(device: free, host: context.memory)
  }

  /// What `make` makes.
  /// - Parameter ways: settings that take less memory.
  /// - Throws: `StageFailure` that names them where memory is lacking; what `make` throws.
  func made<T>(_ ways: [String], _ make: (AvailableMemory) throws -> T) throws -> T {
    func failure(_ error: some Error) -> StageFailure {
      var ways = ways
      if backend.hasOwnMemory, state == .device { ways.insert("set 'optimizer_state: host'", at: 1) }
      return StageFailure("\(error)", help: ways.joined(separator: ", or "))
    }
    do { return try make(available()) } catch let error as TrainingError {
      switch error {
      case .memory: throw failure(error)
      case .hostMemory: throw StageFailure("\(error)", help: "set 'optimizer_state: device'")
      case .diverged, .data, .checkpoint: throw error
      }
    } catch let error as TensorError {
      guard case .outOfMemory = error else { throw error }
      throw failure(error)
    }
  }

  /// Says what memory a training takes, before its first step.
  func say(_ need: MemoryNeed) {
    context.log("memory: \(MemoryNeed.text(need.total)), of which \(need.parts)")
    context.metric("memory_bytes", Double(need.total))
    context.progress(0, "memory: \(MemoryNeed.text(need.total)) (\(need.parts))")
    let ofHost = need.total - (backend.hasOwnMemory ? need.least : 0)
    if ofHost > context.memory {
      context.log(
        "there may be too little memory for checkpoints: \(MemoryNeed.text(context.memory)) are available")
    }
  }
}
