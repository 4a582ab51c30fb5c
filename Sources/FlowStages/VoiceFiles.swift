import FlowCore
public import FlowModels
import FlowNN
import FlowScore
import FlowStageKit
import FlowTensor

/// What stages know of a song's voice, as the model takes it. Times count from where the latents' do.
struct VoiceFiles {
  private let f0: [String: InputItem]
  private let phones: [String: InputItem]
  private let singers: [String: InputItem]

  /// The items of the inputs `f0`, `phones` and `singer`.
  init(_ context: StageContext) {
    func items(_ port: String) -> [String: InputItem] {
      Dictionary(context.items(port).map { ($0.item.id, $0) }, uniquingKeysWith: { a, _ in a })
    }
    (f0, phones, singers) = (items("f0"), items("phones"), items("singer"))
  }

  /// What is known of the item `id`, in latent frames of which there are `rate` a second.
  func voice(_ id: String, rate: Double, frames: Int) throws -> SongConditions {
    try VoiceFiles.conditions(
      f0: f0[id].map { try $0.json(Files.f0, PitchFile.self) },
      phones: phones[id].map { try $0.json("phones.json", [Singer.TimedPhone].self) },
      singer: singers[id].map { try ModelFiles.tensor($0, ModelFiles.style, "style").floats }, rate: rate,
      frames: frames)
  }

  fileprivate static func conditions(
    f0: PitchFile?, phones: [Singer.TimedPhone]?, singer: [Float]?, rate: Double, frames: Int
  ) throws -> SongConditions {
    var result = SongConditions(singer: singer ?? [])
    if let f0 {
      guard f0.step > 0 else { throw StageFailure("'\(Files.f0)' says \(f0.step) s from frame to frame") }
      result.f0 = SongConditions.pitch(f0.f0, step: f0.step, rate: rate, frames: frames)
    }
    result.phones = (phones ?? []).compactMap { phone in
      guard phone.symbol != LyricTokens.wordBoundary, let id = LyricTokens.id(ofPhone: phone.symbol) else {
        return nil
      }
      return SongConditions.Phone(id: id, start: phone.start * rate, end: phone.end * rate)
    }
    return result
  }

  /// Numbers of a singer's vector; 0 when there is none.
  func singerWidth() throws -> Int {
    try singers.min { $0.key < $1.key }.map {
      try ModelFiles.tensor($0.value, ModelFiles.style, "style").floats.count
    } ?? 0
  }

  /// The condition among `kinds` that no item is known of.
  func lacks(_ kinds: Set<ConditionSizes.Kind>) -> ConditionSizes.Kind? {
    ConditionSizes.Kind.allCases.first {
      kinds.contains($0) && [.f0: f0, .phones: phones, .singer: singers][$0]?.isEmpty ?? true
    }
  }

  /// Latent frames a second of an item of type `latents`.
  static func rate(_ item: InputItem) throws -> Double {
    let text = try SafetensorsFile(path: item.path(ModelFiles.latents)).metadata["frames_per_second"]
    guard let text else { return 5 }
    guard let rate = Double(text), rate > 0, rate.isFinite else {
      throw StageFailure("'\(ModelFiles.latents)' says that '\(text)' frames are a second")
    }
    return rate
  }

  /// The conditions in `item`.
  static func adapter(_ item: InputItem) throws -> ConditionAdapter {
    try ConditionAdapter(
      config: item.path(ConditionAdapter.configFile), weights: item.path(ConditionAdapter.weightsFile))
  }
}

/// What a song's voice is told, in files as the stages `f0` and `sing` write them.
public enum VoiceTexts {
  /// Reads `f0.json`, `phones.json`, or what of them is given, for `frames` latent frames of which there are `rate` a second.
  /// - Throws: `PublishedFilesError`, `StageFailure`.
  public static func read(
    f0: String?, phones: String?, singer: [Float], rate: Double, frames: Int
  ) throws -> SongConditions {
    try VoiceFiles.conditions(
      f0: f0.map { try PublishedFiles.document($0, PitchFile.self) },
      phones: phones.map { try PublishedFiles.document($0, [Singer.TimedPhone].self) }, singer: singer,
      rate: rate, frames: frames)
  }
}
