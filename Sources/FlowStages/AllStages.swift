public import FlowStageKit

/// Every native stage: a line each. The contract of each is `stages/NAME.yaml`.
public enum AllStages {
  /// The stages, in the alphabetical order of their names.
  public static let list: [NativeStage] = [
    NativeStage(Augment.self),
    NativeStage(Clip.self),
    NativeStage(DecodeLatents.self),
    NativeStage(EncodeLatents.self),
    NativeStage(Evaluate.self),
    NativeStage(Export.self),
    NativeStage(F0.self),
    NativeStage(ImportAudio.self),
    NativeStage(Lyrics.self),
    NativeStage(Mix.self),
    NativeStage(Normalise.self),
    NativeStage(Pass.self),
    NativeStage(Sample.self),
    NativeStage(Separate.self),
    NativeStage(Sing.self),
    NativeStage(Style.self),
    NativeStage(SymbolicSynthesis.self),
    NativeStage(TrainFlow.self),
    NativeStage(TrainVocoder.self),
  ]
}
