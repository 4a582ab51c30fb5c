import ArgumentParser
import FlowCore
import FlowStages

struct LyricsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lyrics", abstract: "Shows what the model is given of lyrics: tags, times, phones.",
    discussion: """
      Plain text or LRC, English and Mandarin, with structure tags on lines of their own:
      [intro] [verse] [chorus] [hook] [bridge] [break] [inst] [solo] [outro] [space]. English is read by espeak-ng where
      it is installed, else by flow's own rules. What can't be sung is an error with its place.
      """)
  @Argument(help: "The file.", completion: .file(extensions: ["txt", "lrc"])) var file: String
  @Flag(help: "Leaves out what can't be sung instead of refusing the lyrics.") var skipUnknown = false
  @Flag(name: .long, help: "Prints one JSON document on standard output.") var json = false

  func run() async throws {
    try await reporting(json: json) {
      let reading = try SongWords.reading(file, skipsUnknown: skipUnknown)
      if json {
        return Terminal.out(
          JSON.object([
            "schema": "flow.lyrics/1", "ids": .array(reading.ids.map { .int(Int($0)) }),
            "lines": .array(
              reading.lines.map { line in
                [
                  "text": .string(line.text), "phones": .array(line.phones.map(JSON.string)),
                  "start": line.start.map(JSON.double) ?? .null,
                ]
              }),
          ]).pretty)
      }
      for line in reading.lines {
        let time = line.start.map { start in
          let cents = Int((start * 100).rounded())
          func two(_ number: Int) -> String { (number < 10 ? "0" : "") + String(number) }
          return "\(two(cents / 6000)):\(two(cents / 100 % 60)).\(two(cents % 100))  "
        }
        Terminal.out((time ?? "") + line.text)
        if !line.phones.isEmpty { Terminal.out("  " + line.phones.joined(separator: " ")) }
      }
      Terminal.out("\(reading.ids.count) tokens")
    }
  }
}
