public import FlowStageKit

/// Every native stage: a line each. The contract of each is `stages/NAME.yaml`.
public enum AllStages {
  /// The stages, in the alphabetical order of their names.
  public static let list: [NativeStage] = []
}
