import FlowCore
import FlowStageKit
import FlowTestSupport
import Testing

@testable import FlowScore
@testable import FlowStages

@Suite struct PromptTemplateTests {
  private func filled(_ text: String, _ attributes: [String: JSON] = [:]) throws -> String {
    var score = Score()
    score.genre = "waltz"
    score.tempo = 89.6
    let notes = [0, 1, 9, 1].map {
      Score.Note(start: 0, duration: 1, pitch: 60, velocity: 80, channel: $0, syllable: nil)
    }
    let item = InputItem(
      Item(id: "", files: [], attributes: attributes), io: try FolderIO(root: try TemporaryFolder().path))
    return try PromptTemplate(text).filled(item, score.promptValues(notes, [0: 24, 1: 33]))
  }

  @Test func placesAreFilled() throws {
    #expect(
      try filled("{genre} music with {instruments} at {bpm} BPM")
        == "waltz music with guitar, bass and drums at 90 BPM")
    #expect(
      try filled("{genre}, {mood} {take}", ["mood": "calm", "genre": "folk", "take": 3]) == "folk, calm 3")
    #expect(try filled("plain, } and {") == "plain, } and {")
    #expect(try filled("{genre} in {key} at {bpm} BPM, {metre}") == "waltz in C major at 90 BPM, 4/4")
  }

  @Test func whatIsNotKnownIsSaid() {
    #expect {
      try filled("a {mood} song")
    } throws: {
      let failure = $0 as? StageFailure
      return failure?.message == "nothing is known for '{mood}' in 'prompt_template'"
        && failure?.help?.contains("known are {bpm} {genre} {instruments}") ?? false
    }
  }
}
