import ArgumentParser
import FlowModels
import FlowStages

/// What a voice is told beside lyrics and style.
struct SongVoice: ParsableArguments {
  @Option(help: "The folder of conditions that train-flow trained beside the model.") var conditions: String?
  @Option(help: "Of conditions: the pitch to be sung, f0.json as the stages 'f0' and 'sing' write it.")
  var f0: String?
  @Option(help: "Of conditions: when phones are sung, phones.json as the stage 'sing' writes it.") var phones:
    String?
  @Option(help: "Of conditions: a safetensors file with the singer's vector.") var singer: String?

  func validate() throws {
    if conditions == nil, f0 != nil || phones != nil || singer != nil {
      throw ValidationError("--f0, --phones and --singer are for a model with --conditions")
    }
  }

  /// The networks, if any are given.
  func adapter() throws -> ConditionAdapter? {
    try conditions.map { folder in
      try Weights.explained(folder) {
        try ConditionAdapter(
          config: folder + "/" + ConditionAdapter.configFile,
          weights: folder + "/" + ConditionAdapter.weightsFile)
      }
    }
  }

  /// What they are told; `vector` reads a vector from a file.
  func told(rate: Double, frames: Int, _ vector: (String) throws -> [Float]) throws -> SongConditions {
    let singer = try singer.map(vector) ?? []
    return try Weights.explained(f0 ?? phones ?? "") {
      try VoiceTexts.read(f0: f0, phones: phones, singer: singer, rate: rate, frames: frames)
    }
  }
}
