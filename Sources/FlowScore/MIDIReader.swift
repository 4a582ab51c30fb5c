/// Reads Standard MIDI Files (format 0 and 1; RP-001): notes, tempo map, key and time signatures, programs, lyrics.
public enum MIDIReader {
  /// Parses the bytes of a file. Damage after the header ends the track it is in, keeping what came before.
  /// - Throws: `ScoreError` when it is no MIDI file or has no notes.
  public static func read(_ bytes: [UInt8]) throws(ScoreError) -> Score {
    guard
      let start = bytes.indices.dropLast(13).first(where: { Array(bytes[$0..<$0 + 4]) == Array("MThd".utf8) })
    else {
      throw ScoreError("this is no MIDI file: there is no MThd header")
    }
    func be(_ at: Int, _ count: Int) -> Int {
      (0..<count).reduce(0) { $0 << 8 | (at + $1 < bytes.count ? Int(bytes[at + $1]) : 0) }
    }
    let headerLength = be(start + 4, 4)
    let division = be(start + 12, 2)
    guard headerLength >= 6, headerLength < 1 << 16 else {
      throw ScoreError("the MIDI header is \(headerLength) bytes long")
    }
    guard division & 0x8000 == 0, division > 0 else {
      throw ScoreError("SMPTE time division is not read yet")
    }
    var reader = Tracks()
    var position = start + 8 + headerLength
    var tracks = 0
    while position + 8 <= bytes.count, tracks < 4096 {
      let length = be(position + 4, 4)
      let end = min(bytes.count, position + 8 + length)
      if Array(bytes[position..<position + 4]) == Array("MTrk".utf8) {
        reader.track(bytes[(position + 8)..<end])
        tracks += 1
      }
      position = end
    }
    guard !reader.notes.isEmpty else { throw ScoreError("the MIDI file has no notes") }
    return reader.score(division)
  }

  private struct Tracks {
    var notes: [(start: Int, end: Int, pitch: Int, velocity: Int, channel: Int)] = []
    var tempos: [(tick: Int, micros: Int)] = []
    var lyrics: [(tick: Int, text: String)] = []
    var programs: [Int: Int] = [:]
    var title = ""
    var metre: (Int, Int) = (4, 4)
    var key: (fifths: Int, minor: Bool)?

    mutating func track(_ data: ArraySlice<UInt8>) {
      var (i, tick, status) = (data.startIndex, 0, UInt8(0))
      var open: [Int: [(start: Int, velocity: Int)]] = [:]
      func variable() -> Int? {
        var value = 0
        for _ in 0..<4 {
          guard i < data.endIndex else { return nil }
          value = value << 7 | Int(data[i] & 0x7F)
          i += 1
          if data[i - 1] < 0x80 { return value }
        }
        return nil
      }
      while i < data.endIndex, notes.count < 5_000_000 {
        guard let delta = variable(), i < data.endIndex else { break }
        tick += delta
        if data[i] >= 0x80 {
          status = data[i]
          i += 1
        }
        if status == 0xFF {
          guard i < data.endIndex else { break }
          let type = data[i]
          i += 1
          guard let length = variable(), i + length <= data.endIndex else { break }
          meta(type, data[i..<i + length], tick)
          i += length
          status = 0
          if type == 0x2F { break }
        } else if status == 0xF0 || status == 0xF7 {
          guard let length = variable(), i + length <= data.endIndex else { break }
          i += length
          status = 0
        } else if status >= 0x80 {
          let count = status & 0xF0 == 0xC0 || status & 0xF0 == 0xD0 ? 1 : 2
          guard i + count <= data.endIndex else { break }
          let (a, b) = (Int(data[i] & 0x7F), count == 2 ? Int(data[i + 1] & 0x7F) : 0)
          i += count
          let channel = Int(status & 15)
          let slot = channel * 128 + a
          switch status & 0xF0 {
          case 0x90 where b > 0: open[slot, default: []].append((tick, b))
          case 0x80, 0x90:
            if let first = open[slot]?.first {
              open[slot]?.removeFirst()
              notes.append((first.start, tick, a, first.velocity, channel))
            }
          case 0xC0: if programs[channel] == nil { programs[channel] = a }
          default: break
          }
        } else {
          break
        }
      }
      for (slot, list) in open {
        for note in list {
          notes.append((note.start, max(tick, note.start), slot % 128, note.velocity, slot / 128))
        }
      }
    }

    private mutating func meta(_ type: UInt8, _ data: ArraySlice<UInt8>, _ tick: Int) {
      let bytes = Array(data)
      switch type {
      case 0x03: if title.isEmpty { title = String(decoding: bytes, as: UTF8.self) }
      case 0x05: lyrics.append((tick, String(decoding: bytes, as: UTF8.self)))
      case 0x51 where bytes.count == 3:
        let micros = Int(bytes[0]) << 16 | Int(bytes[1]) << 8 | Int(bytes[2])
        if micros > 0 { tempos.append((tick, micros)) }
      case 0x58 where bytes.count >= 2 && bytes[0] > 0 && bytes[1] < 6:
        if tick == 0 { metre = (Int(bytes[0]), 1 << Int(bytes[1])) }
      case 0x59 where bytes.count == 2 && bytes[1] < 2:
        let fifths = Int(Int8(bitPattern: bytes[0]))
        if abs(fifths) <= 7, key == nil { key = (fifths, bytes[1] == 1) }
      default: break
      }
    }

    func score(_ division: Int) -> Score {
      let map = tempos.sorted { $0.tick < $1.tick }
      func seconds(_ tick: Int) -> Double {
        var (time, last, micros) = (0.0, 0, 500_000)
        for tempo in map where tempo.tick < tick {
          time += Double(tempo.tick - last) * Double(micros) / 1e6 / Double(division)
          (last, micros) = (tempo.tick, tempo.micros)
        }
        return time + Double(tick - last) * Double(micros) / 1e6 / Double(division)
      }
      var score = Score()
      score.title = title
      score.genre = "piece"
      score.tempo = 60e6 / Double(map.first?.micros ?? 500_000)
      score.metre = "\(metre.0)/\(metre.1)"
      score.beatsPerBar = metre.0
      score.beat = 60 / score.tempo * 4 / Double(metre.1)
      score.programs = programs
      if let key { score.key = MIDIReader.name(key.fifths, minor: key.minor) }
      let words = Dictionary(lyrics.map { ($0.tick, $0.text) }, uniquingKeysWith: { a, _ in a })
      score.notes = notes.sorted {
        ($0.start, $0.pitch, $0.channel, $0.end) < ($1.start, $1.pitch, $1.channel, $1.end)
      }.map { note in
        let start = seconds(note.start)
        return Score.Note(
          start: start, duration: max(0.01, seconds(note.end) - start), pitch: note.pitch,
          velocity: note.velocity,
          channel: note.channel, syllable: words[note.start]?.trimmingPrefix(" ").description)
      }
      score.hasMelody = !lyrics.isEmpty
      return score
    }
  }

  static func name(_ fifths: Int, minor: Bool) -> String {
    let circle = [
      "Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#",
    ]
    return "\(circle[fifths + 7 + (minor ? 3 : 0)]) \(minor ? "minor" : "major")"
  }
}
