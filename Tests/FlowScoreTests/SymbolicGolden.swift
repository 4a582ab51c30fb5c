import FlowCore
import FlowTestSupport
import Foundation
import Testing

@testable import FlowScore

/// Notes against those that reference programs read from the same files (abc2midi; mido for MIDI).
@Suite struct SymbolicGolden {
  struct Peers: Decodable {
    struct Peer: Decodable {
      var notes: [[Double]]?
      var error: String?
    }
    var file: String
    var peers: [String: Peer]
  }

  /// The share of notes that both have, at the same time and pitch (F1), after aligning the first onsets.
  static func agreement(_ ours: [Score.Note], _ theirs: [[Double]]) -> Double {
    guard !ours.isEmpty, !theirs.isEmpty else { return ours.isEmpty && theirs.isEmpty ? 1 : 0 }
    let shift = (theirs.map { $0[0] }.min() ?? 0) - (ours.map(\.start).min() ?? 0)
    var open = theirs.map { (start: $0[0] - shift, pitch: Int($0[2]), taken: false) }
    var hits = 0
    for note in ours {
      if let index = open.firstIndex(where: {
        !$0.taken && $0.pitch == note.pitch && abs($0.start - note.start) < 0.02
      }) {
        open[index].taken = true
        hits += 1
      }
    }
    return 2 * Double(hits) / Double(ours.count + theirs.count)
  }

  static func compare(_ kind: String, peer: String, _ read: ([UInt8]) throws -> Score) throws -> [(
    name: String, score: Double
  )] {
    guard let corpus = Golden.corpus("score/\(kind)") else { return [] }
    var result: [(name: String, score: Double)] = []
    let folder = "symbolic/score/\(kind)"
    for name in Golden.files(in: folder, suffix: ".peers.json") {
      guard let golden = Golden.file("\(folder)/\(name)") else { continue }
      let peers = try JSONDecoder().decode(Peers.self, from: Data(contentsOf: golden))
      let file = corpus.appendingPathComponent(String(name.dropLast(11)))
      guard let notes = peers.peers[peer]?.notes, let bytes = try? Data(contentsOf: file) else { continue }
      let score: Double
      do { score = agreement(try read([UInt8](bytes)).notes, notes) } catch {
        score = notes.isEmpty ? 1 : 0
      }
      result.append((name, score))
    }
    return result
  }

  /// abc2midi also performs what is written: it swings hornpipes, plays trills and grace notes. So not every tune can
  /// agree; most do, to the note.
  @Test func abcNotesAreThoseOfAbc2midi() throws {
    let found = try SymbolicGolden.compare("abc", peer: "abc2midi") {
      try ABCReader.read(String(decoding: $0, as: UTF8.self))
    }.map(\.score).sorted()
    guard !found.isEmpty else { return }
    let mean = found.reduce(0, +) / Double(found.count)
    print("ABC: \(found.count) tunes, mean agreement \(mean), \(found.count { $0 > 0.999 }) to the note")
    #expect(mean > 0.84)
    #expect(found[found.count / 2] > 0.999)
  }

  @Test func midiNotesAreThoseOfMido() throws {
    for entry in try SymbolicGolden.compare("midi", peer: "mido", { try MIDIReader.read($0) }) {
      #expect(entry.score > 0.999, "\(entry.name)")
    }
  }
}
