public import FlowStageKit

/// Every native stage: a line each. The contract of each is `stages/NAME.yaml`.
public enum AllStages {
  /// The stages.
  public static let list: [NativeStage] = [
    NativeStage(Augment.self),
    NativeStage(Evaluate.self),
    NativeStage(F0.self),
    NativeStage(ImportAudio.self),
    NativeStage(Mix.self),
    NativeStage(Normalise.self),
    NativeStage(Separate.self),
    NativeStage(Sing.self),
    NativeStage(SymbolicSynthesis.self),
  ]
}
