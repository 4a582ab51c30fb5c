import CFluidSynth

/// Renders scores to audio through FluidSynth.
public struct Renderer: Sendable {
  /// The soundfont's path.
  public var soundfont: String
  /// Hz.
  public var sampleRate = 44_100
  /// Share of reverberation, 0 to 1; 0 turns it off.
  public var reverb = 0.3
  /// Level of the chorus, 0 to 10; 0 turns it off.
  public var chorus = 0.0
  /// Master gain.
  public var gain = 0.6

  /// Where soundfonts under a free licence are looked for.
  public static let soundfonts = [
    "/usr/share/sounds/sf3/FluidR3Mono_GM.sf3", "/usr/share/fluidr3mono-gm-soundfont/FluidR3Mono_GM.sf3",
    "/usr/share/sounds/sf3/default-GM.sf3",
  ]

  /// FluidSynth's version.
  /// - Throws: `ScoreError` when it can't be opened.
  public static func libraryVersion() throws(ScoreError) -> String {
    try library().fluid_version_str().map { String(cString: $0) } ?? ""
  }

  private static func library() throws(ScoreError) -> flow_fluidsynth {
    var reason = [CChar](repeating: 0, count: 512)
    if let functions = flow_fluidsynth_open(&reason, Int32(reason.count)) { return functions.pointee }
    let why = String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    throw ScoreError("FluidSynth can't be opened (\(why)); sudo apt-get install libfluidsynth-dev")
  }

  /// With that soundfont.
  public init(soundfont: String) { self.soundfont = soundfont }

  /// The notes as mono samples, with `tail` seconds for the sound to die away. Equal notes give equal samples.
  /// - Throws: `ScoreError` when the soundfont can't be used.
  public func render(_ notes: [Score.Note], programs: [Int: Int], tail: Double = 1) throws(ScoreError)
    -> [Float]
  {
    let fluid = try Renderer.library()
    for level in 0..<5 { _ = fluid.fluid_set_log_function(Int32(level), nil, nil) }
    guard let settings = fluid.new_fluid_settings() else { throw ScoreError("FluidSynth can't be started") }
    defer { fluid.delete_fluid_settings(settings) }
    _ = fluid.fluid_settings_setnum(settings, "synth.sample-rate", Double(sampleRate))
    _ = fluid.fluid_settings_setnum(settings, "synth.gain", gain)
    _ = fluid.fluid_settings_setint(settings, "synth.cpu-cores", 1)
    _ = fluid.fluid_settings_setint(settings, "synth.dynamic-sample-loading", 1)
    _ = fluid.fluid_settings_setint(settings, "synth.reverb.active", reverb > 0 ? 1 : 0)
    _ = fluid.fluid_settings_setint(settings, "synth.chorus.active", chorus > 0 ? 1 : 0)
    _ = fluid.fluid_settings_setnum(settings, "synth.reverb.room-size", 0.5)
    _ = fluid.fluid_settings_setnum(settings, "synth.reverb.level", reverb)
    if chorus > 0 { _ = fluid.fluid_settings_setnum(settings, "synth.chorus.level", chorus) }
    guard let synth = fluid.new_fluid_synth(settings) else { throw ScoreError("FluidSynth can't be started") }
    defer { fluid.delete_fluid_synth(synth) }
    guard fluid.fluid_synth_sfload(synth, soundfont, 1) >= 0 else {
      throw ScoreError(
        "the soundfont '\(soundfont)' can't be loaded; sudo apt-get install fluidr3mono-gm-soundfont")
    }
    for (channel, program) in programs.sorted(by: { $0.key < $1.key }) where channel != 9 {
      _ = fluid.fluid_synth_program_change(synth, Int32(channel), Int32(min(max(program, 0), 127)))
    }
    var events: [(sample: Int, on: Bool, note: Score.Note)] = []
    for note in notes {
      events.append((Int(note.start * Double(sampleRate)), true, note))
      events.append((Int((note.start + note.duration) * Double(sampleRate)), false, note))
    }
    events.sort {
      ($0.sample, $0.on ? 1 : 0, $0.note.channel, $0.note.pitch) < (
        $1.sample, $1.on ? 1 : 0, $1.note.channel, $1.note.pitch
      )
    }
    let total = (events.last?.sample ?? 0) + Int(tail * Double(sampleRate))
    var left = [Float](repeating: 0, count: total)
    var right = left
    var position = 0
    func advance(to sample: Int) {
      guard sample > position else { return }
      _ = fluid.fluid_synth_write_float(
        synth, Int32(sample - position), &left, Int32(position), 1, &right, Int32(position), 1)
      position = sample
    }
    for event in events {
      advance(to: event.sample)
      let (channel, pitch) = (Int32(event.note.channel), Int32(event.note.pitch))
      if event.on {
        _ = fluid.fluid_synth_noteon(synth, channel, pitch, Int32(event.note.velocity))
      } else {
        _ = fluid.fluid_synth_noteoff(synth, channel, pitch)
      }
    }
    advance(to: total)
    return zip(left, right).map { ($0 + $1) / 2 }
  }
}

/// Plays chord symbols: a bass on strong beats, the chord on the others.
public enum Arranger {
  /// The accompaniment's notes (channel 1 chords, 2 bass) and their programs.
  public static func accompany(_ score: Score) -> (notes: [Score.Note], programs: [Int: Int]) {
    var notes: [Score.Note] = []
    let end = score.duration
    var time = score.pickup
    var beat = 0
    while time < end - 1e-6 {
      if let chord = score.chords.last(where: { $0.start <= time + 1e-6 }),
        let (root, tones) = tones(chord.name)
      {
        let strong = beat == 0 || (score.beatsPerBar == 4 && beat == 2)
        let length = score.beat * 0.9
        if strong {
          let fifth = beat != 0
          notes.append(
            note(
              time, score.beat * (score.beatsPerBar == 3 ? 2.6 : 1.8), 36 + (root + (fifth ? 7 : 0)) % 12,
              beat == 0 ? 84 : 74, 2))
        }
        if !strong || score.beatsPerBar <= 2 {
          let offset = score.beatsPerBar <= 2 ? score.beat / 2 : 0
          for tone in tones {
            notes.append(note(time + offset, length - offset, 55 + (root + tone + 5) % 12, 58, 1))
          }
        }
      }
      time += score.beat
      beat = (beat + 1) % max(1, score.beatsPerBar)
    }
    let programs = [1: score.programs[1] ?? 24, 2: score.programs[2] ?? 32]
    return (notes.filter { $0.start < end }, programs)
  }

  private static func note(_ start: Double, _ duration: Double, _ pitch: Int, _ velocity: Int, _ channel: Int)
    -> Score.Note
  {
    Score.Note(
      start: start, duration: duration, pitch: pitch, velocity: velocity, channel: channel, syllable: nil)
  }

  /// Root (0 = C) and intervals of a chord symbol; `nil` when it is none.
  static func tones(_ name: String) -> (Int, [Int])? {
    guard let match = name.firstMatch(of: #/^([A-G])([#b]?)(maj7|m7|min|dim|m|7|sus4|aug)?/#) else {
      return nil
    }
    let steps: [Character: Int] = ["C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11]
    let root =
      ((steps[match.1.first ?? "C"] ?? 0) + (match.2 == "#" ? 1 : (match.2 == "b" ? -1 : 0)) + 12) % 12
    let shapes: [String: [Int]] = [
      "": [0, 4, 7], "m": [0, 3, 7], "min": [0, 3, 7], "7": [0, 4, 10], "m7": [0, 3, 10], "maj7": [0, 4, 11],
      "dim": [0, 3, 6], "sus4": [0, 5, 7], "aug": [0, 4, 8],
    ]
    return (root, shapes[match.3.map(String.init) ?? ""] ?? [0, 4, 7])
  }
}
