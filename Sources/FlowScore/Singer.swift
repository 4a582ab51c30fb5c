public import FlowCore
import Foundation

/// A small deterministic singing synthesiser: a glottal pulse train with vibrato and jitter, formant resonators that glide
/// between phones, noise for fricatives and plosives. Its pitch and its phones are known exactly, which is its purpose.
public struct Singer: Sendable {
  /// Hz.
  public var sampleRate = 44_100
  /// Vibrato, Hz and cents; it sets in after a quarter of a second.
  public var vibratoRate = 5.5, vibratoDepth = 40.0
  /// Factor on all formants: 1 for an average adult, more for a smaller head.
  public var formantScale = 1.08
  /// Random deviation of the pitch from period to period, as a share.
  public var jitter = 0.002

  /// An average voice.
  public init() {}

  /// A phone and when it is sung.
  public struct TimedPhone: Sendable, Hashable, Codable {
    /// The symbol.
    public var symbol: String
    /// Seconds.
    public var start: Double
    /// Seconds.
    public var end: Double
  }

  /// What was sung.
  public struct Performance: Sendable {
    /// Samples, mono.
    public var samples: [Float]
    /// The pitch every `step` seconds, Hz; 0 where nothing is voiced.
    public var f0: [Double]
    /// Seconds between pitches.
    public var step = 0.005
    /// The phones in order.
    public var phones: [TimedPhone]
    /// The phones of each word, with the word, in order.
    public var words: [(text: String, phones: [String])]
  }

  private struct Segment {
    var phone: String
    var start: Double
    var end: Double
  }

  /// Sings the melody of `score` (channel 0; notes without syllables are sung "la") for `duration` seconds.
  public func sing(_ score: Score, duration: Double, random: Philox) -> Performance {
    let notes = score.notes.filter { $0.channel == 0 }.sorted { $0.start < $1.start }
    let (segments, words) = plan(notes)
    let count = Int(duration * Double(sampleRate))
    var samples = [Float](repeating: 0, count: count)
    let (pitch, voiced) = voice(segments, notes, count, &samples, random)
    let step = Double(sampleRate) * 0.005
    let f0 = (0..<Int(Double(count) / step)).map { i -> Double in
      let at = Int(Double(i) * step)
      return voiced[at] ? pitch[at] : 0
    }
    let phones = segments.map { TimedPhone(symbol: $0.phone, start: $0.start, end: $0.end) }

    return Performance(samples: samples, f0: f0, phones: phones, words: words)
  }

  /// Phones in time: the vowel begins on the note, consonants before it lie before it.
  private func plan(_ notes: [Score.Note]) -> ([Segment], [(text: String, phones: [String])]) {
    // Syllables of one word are pronounced together; a prolonged syllable takes its notes together.
    var groups: [(syllable: String, start: Double, end: Double)] = []
    for note in notes {
      if note.syllable == "_", let last = groups.indices.last {
        groups[last].end = note.start + note.duration
      } else {
        groups.append((note.syllable ?? "la", note.start, note.start + note.duration))
      }
    }
    var segments: [Segment] = []
    var words: [(text: String, phones: [String])] = []
    var index = 0
    while index < groups.count {
      var last = index
      while last + 1 < groups.count, groups[last].syllable.hasSuffix("-") { last += 1 }
      let syllables = groups[index...last].map {
        $0.syllable.trimmingCharacters(in: CharacterSet(charactersIn: "-"))
      }
      let phones = Pronunciation.phones(ofSyllables: Array(syllables))
      words.append((syllables.joined(), phones.flatMap { $0 }))
      for (offset, syllable) in phones.enumerated() {
        let group = groups[index + offset]
        let nucleus = syllable.lastIndex { Phone.table[$0]?.kind == .vowel } ?? max(0, syllable.count - 1)
        let (onset, coda) = (syllable[..<nucleus], syllable[(nucleus + 1)...])
        let room = (group.end - group.start) * 0.45
        let codaLength = coda.reduce(0) { $0 + (Phone.table[$1]?.length ?? 0.06) }
        let shrink = codaLength > room ? room / codaLength : 1
        // Consonants before the beat take time from what comes before.
        var time = group.start
        for phone in onset.reversed() {
          let length = min(Phone.table[phone]?.length ?? 0.06, 0.09)
          segments.append(Segment(phone: phone, start: max(0, time - length), end: time))
          time = max(0, time - length)
        }
        if let before = segments.indices.last(where: { segments[$0].start < time && segments[$0].end > time })
        {
          segments[before].end = max(segments[before].start + 0.02, time)
        }
        let vowelEnd = group.end - codaLength * shrink - 0.015
        if nucleus < syllable.count {
          segments.append(
            Segment(phone: syllable[nucleus], start: group.start, end: max(group.start + 0.04, vowelEnd)))
        }
        time = max(group.start + 0.04, vowelEnd)
        for phone in coda {
          let length = (Phone.table[phone]?.length ?? 0.06) * shrink
          segments.append(Segment(phone: phone, start: time, end: time + length))
          time += length
        }
      }
      index = last + 1
    }
    // A consonant that reaches into the note before ends that note's last phone.
    segments.sort { $0.start < $1.start }
    for i in segments.indices.dropLast() where segments[i].end > segments[i + 1].start {
      segments[i].end = max(segments[i].start, segments[i + 1].start)
    }
    return (segments.filter { $0.end - $0.start > 0.004 }, words)
  }

  private func voice(
    _ segments: [Segment], _ notes: [Score.Note], _ count: Int, _ samples: inout [Float], _ seed: Philox
  ) -> (pitch: [Double], voiced: [Bool]) {
    var random = seed
    let rate = Double(sampleRate)
    var (pitch, voiced) = ([Double](repeating: 0, count: count), [Bool](repeating: false, count: count))
    var (phase, deviation, note, level, breath) = (0.0, 0.0, 0, 0.0, 0.0)
    var slow = Double(notes.first?.pitch ?? 60)
    var formants = [500.0, 1500, 2500, 3700, 4700]
    var resonators = [Resonator](repeating: Resonator(), count: 5)
    var noise = Resonator()
    var current = 0
    var lastFlow = 0.0
    for i in 0..<count {
      let t = Double(i) / rate
      while note + 1 < notes.count, notes[note + 1].start - 0.03 <= t { note += 1 }
      while current + 1 < segments.count, segments[current + 1].start <= t { current += 1 }
      let segment =
        segments.indices.contains(current) && t >= segments[current].start && t < segments[current].end
        ? segments[current] : nil
      let phone = segment.flatMap { Phone.table[$0.phone] } ?? nil
      // Portamento: the pitch follows the note within about 30 ms.
      slow +=
        (Double(notes.indices.contains(note) ? notes[note].pitch : 60) - slow)
        * (1 - exp(-1 / (0.015 * rate)))
      let since = t - (notes.indices.contains(note) ? notes[note].start : 0)
      let depth = vibratoDepth / 100 * min(1, max(0, (since - 0.25) / 0.2))
      let f = 440 * exp2((slow + depth * sin(2 * .pi * vibratoRate * t) - 69) / 12)
      pitch[i] = f
      // Targets of this phone, where a glide has got to.
      if i % 32 == 0 {
        if let phone, let segment {
          let part = (t - segment.start) / max(0.01, segment.end - segment.start)
          for k in 0..<3 {
            var target = phone.formants[k]
            if let glide = phone.glide { target += (glide[k] - target) * min(1, max(0, (part - 0.45) / 0.4)) }
            formants[k] += (target * formantScale - formants[k]) * 0.06
          }
          formants[3] = 3700 * formantScale
          formants[4] = 4700 * formantScale
        }
        for k in 0..<5 { resonators[k].tune(formants[k], [70, 90, 130, 200, 260][k], rate) }
        if let band = phone?.noise { noise.tune(band.centre, band.width, rate) }
      }
      var (voiceGain, noiseGain) = (0.0, 0.0)
      if let phone, let segment {
        let part = (t - segment.start) / max(0.01, segment.end - segment.start)
        switch phone.kind {
        case .vowel: (voiceGain, noiseGain) = (1, 0.004)
        case .voiced: voiceGain = 0.55
        case .fricative: noiseGain = segment.phone == "h" ? 0.12 : 0.22
        case .voicedFricative: (voiceGain, noiseGain) = (0.35, 0.12)
        case .plosive: noiseGain = part > 0.55 ? 0.3 * (1 - (part - 0.55) / 0.45) : 0
        case .voicedPlosive: (voiceGain, noiseGain) = (0.2, part > 0.6 ? 0.2 : 0)
        }
      }
      level += (voiceGain - level) * (1 - exp(-1 / (0.008 * rate)))
      breath += (noiseGain - breath) * (1 - exp(-1 / (0.004 * rate)))
      voiced[i] = level > 0.15
      phase += f * (1 + deviation) / rate
      if phase >= 1 {
        phase -= 1
        deviation = jitter * random.normal()
      }
      // Rosenberg's pulse (1971): opens over 40 % of the period, closes over 16 %; its derivative excites the tract.
      let flow =
        phase < 0.4
        ? 0.5 * (1 - cos(.pi * phase / 0.4)) : (phase < 0.56 ? cos(.pi / 2 * (phase - 0.4) / 0.16) : 0)
      var value = (flow - lastFlow) * rate / max(f, 1) / 16 * level
      lastFlow = flow
      for k in 0..<5 { value = resonators[k].step(value) }
      let hiss = breath > 1e-4 ? noise.step(random.uniform() * 2 - 1) * breath : 0
      samples[i] = Float(value * 0.5 + hiss)
    }
    let peak = samples.reduce(0) { max($0, abs($1)) }
    if peak > 0 { for i in samples.indices { samples[i] *= 0.5 / peak } }
    return (pitch, voiced)
  }
}

/// A two-pole resonator of unit gain at zero frequency (Klatt 1980).
private struct Resonator {
  private var a = 1.0, b = 0.0, c = 0.0, y1 = 0.0, y2 = 0.0

  mutating func tune(_ frequency: Double, _ width: Double, _ rate: Double) {
    c = -exp(-2 * .pi * width / rate)
    b = 2 * exp(-.pi * width / rate) * cos(2 * .pi * min(frequency, rate * 0.45) / rate)
    a = 1 - b - c
  }

  mutating func step(_ x: Double) -> Double {
    let y = a * x + b * y1 + c * y2
    y2 = y1
    y1 = y
    return y
  }
}
