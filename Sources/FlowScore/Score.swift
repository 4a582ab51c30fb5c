/// A piece of music: notes in seconds, with what is needed to render, sing and describe it.
public struct Score: Sendable, Hashable, Codable {
  /// A note.
  public struct Note: Sendable, Hashable, Codable {
    /// Seconds from the beginning.
    public var start: Double
    /// Seconds.
    public var duration: Double
    /// MIDI pitch, 60 = middle C.
    public var pitch: Int
    /// 1 to 127.
    public var velocity: Int
    /// MIDI channel, 9 for drums.
    public var channel: Int
    /// The syllable sung, with a trailing "-" within a word; "_" prolongs the syllable before.
    public var syllable: String?
  }
  /// A chord symbol and where it holds.
  public struct Chord: Sendable, Hashable, Codable {
    /// Seconds from the beginning.
    public var start: Double
    /// Seconds.
    public var duration: Double
    /// The symbol, such as `Am` or `D7`.
    public var name: String
  }

  /// The title.
  public var title = ""
  /// The kind of piece, such as `lullaby`.
  public var genre = "tune"
  /// The key, such as `D major`.
  public var key = "C major"
  /// Quarter notes a minute.
  public var tempo = 120.0
  /// The metre, such as `6/8`.
  public var metre = "4/4"
  /// Beats of the metre in a bar.
  public var beatsPerBar = 4
  /// Seconds of one beat of the metre.
  public var beat = 0.5
  /// Seconds before the first full bar.
  public var pickup = 0.0
  /// The melody, or all notes of a MIDI file.
  public var notes: [Note] = []
  /// The chords, in order.
  public var chords: [Chord] = []
  /// General MIDI programs by channel.
  public var programs: [Int: Int] = [:]
  /// The first note of channel 0 is a melody to be sung or hummed.
  public var hasMelody = true

  /// Seconds to the end of the last note.
  public var duration: Double { notes.reduce(0) { max($0, $1.start + $1.duration) } }
}

/// Why a score can't be read.
public struct ScoreError: Error, Sendable, CustomStringConvertible {
  /// What is wrong, and where.
  public let description: String
  init(_ description: String) { self.description = description }
}
