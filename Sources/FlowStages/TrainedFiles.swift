import FlowCore
import FlowModels
import FlowNN
import FlowStageKit
import FlowTensor

/// How `train-flow` gives what it trained: weights, or a low-rank adapter of a base, and conditions beside either.
struct TrainedFiles {
  private let settings: FlowTraining
  private let base: NetworkFiles?

  init(_ settings: FlowTraining, base: NetworkFiles?) {
    self.settings = settings
    self.base = base
  }

  /// The output that the best go to; of conditions alone there are no others.
  var port: String? { settings.adaptation != nil ? "adapter" : settings.isFrozen ? nil : "weights" }

  /// Emits what was trained, by the names of the trainer.
  /// - Parameters:
  ///   - port: for weights or adapter, and for conditions on the way and the last.
  ///   - isBest: conditions go to the output of their own.
  func emit(
    _ trained: [String: HostTensor], to port: String?, _ id: String? = nil, isBest: Bool = false,
    context: StageContext
  ) throws {
    let parts = FlowTrainer.split(trained)
    var files: [String: FileContent] = [:]
    var name = base?.name ?? ""
    if let adaptation = settings.adaptation {
      files = Adapter(adaptation, base: name, weights: parts.model).files().mapValues { .bytes($0) }
    } else if !settings.isFrozen {
      // What a training doesn't touch, such as the base's heads for representations, stays with the model.
      let untouched = try base?.tensors().filter { parts.model[$0.key] == nil } ?? [:]
      let weights = parts.model.merging(untouched) { trained, _ in trained }
      let bytes = Safetensors.encode(weights, metadata: ["format": "pt"])
      name = BaseName.of([Digest(of: bytes)])
      files = [ModelFiles.model: .bytes(bytes), ModelFiles.modelConfig: try ModelFiles.text(settings.model)]
    }
    if let sizes = settings.conditions {
      let own = try ConditionAdapter(sizes, base: name, weights: parts.conditions).files()
        .mapValues { FileContent.bytes($0) }
      if isBest {
        try context.emit("conditions", id: "conditions", files: own)
      } else {
        files.merge(own) { $1 }
      }
    }
    if let port {
      let standard = settings.adaptation == nil ? "model" : "adapter"
      try context.emit(port, id: id ?? standard, files: files)
    }
  }
}
