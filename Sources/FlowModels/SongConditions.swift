import Foundation

/// What is known of a song's voice, by latent frames.
public struct SongConditions: Sendable, Hashable {
  /// A phone and when it is sung.
  public struct Phone: Sendable, Hashable {
    /// Its token id, from 1 to the vocabulary's size.
    public var id: Int32
    /// In latent frames from the song's beginning.
    public var start: Double, end: Double
    /// A phone.
    public init(id: Int32, start: Double, end: Double) {
      self.id = id
      self.start = start
      self.end = end
    }
  }

  /// Parts of a latent frame whose pitch is told apart.
  public static let slots = 4

  /// For each part of each latent frame the share that is voiced and, times that, the octaves above 220 Hz; empty when the pitch
  /// is not known.
  public var f0: [Float]
  /// In the order in which they are sung; empty when they are not known.
  public var phones: [Phone]
  /// The singer's vector; empty when it is not known.
  public var singer: [Float]

  /// Nothing is known unless said.
  public init(f0: [Float] = [], phones: [Phone] = [], singer: [Float] = []) {
    self.f0 = f0
    self.phones = phones
    self.singer = singer
  }

  /// The pitch features of a track.
  /// - Parameters:
  ///   - track: Hz, 0 where unvoiced.
  ///   - step: seconds from one to the next.
  ///   - rate: latent frames a second.
  ///   - frames: how many.
  public static func pitch(_ track: [Double], step: Double, rate: Double, frames: Int) -> [Float] {
    (0..<frames * slots).flatMap { slot -> [Float] in
      // The samples nearest to the part, at least one.
      let (start, end) = (Double(slot) / Double(slots) / rate, Double(slot + 1) / Double(slots) / rate)
      let first = Int((start / step).rounded(.up))
      let last = max(first + 1, Int((end / step).rounded(.up)))
      let samples = track[min(first, track.count)..<min(last, track.count)]
      let voiced = samples.filter { $0 > 0 && $0.isFinite }
      guard !voiced.isEmpty else { return [0, 0] }
      let octaves = voiced.reduce(0) { $0 + log2($1 / 220) } / Double(voiced.count)
      let share = Double(voiced.count) / Double(samples.count)
      return [Float(share), Float(share * octaves)]
    }
  }

  /// The features of a condition for the frames `range`, row-major; what is not known is zero.
  func features(_ kind: ConditionSizes.Kind, _ range: Range<Int>, width: Int) -> [Float] {
    guard kind != .singer else { return singer.isEmpty ? [Float](repeating: 0, count: width) : singer }
    var result = [Float](repeating: 0, count: range.count * width)
    if kind == .f0 {
      let known = range.clamped(to: 0..<f0.count / width)
      for i in known.lowerBound * width..<known.upperBound * width {
        result[i - range.lowerBound * width] = f0[i]
      }
      return result
    }
    for phone in phones where (1...width).contains(Int(phone.id)) {
      let (start, end) = (
        max(phone.start, Double(range.lowerBound)), min(phone.end, Double(range.upperBound))
      )
      guard start < end else { continue }
      for frame in Int(start)...min(Int(end), range.upperBound - 1) {
        let share = min(end, Double(frame + 1)) - max(start, Double(frame))
        if share > 0 { result[(frame - range.lowerBound) * width + Int(phone.id) - 1] += Float(share) }
      }
    }
    return result
  }

  /// Why it doesn't fit conditions of these sizes; `nil` when it does.
  func misfit(_ sizes: ConditionSizes) -> String? {
    if sizes.kinds.contains(.singer), !singer.isEmpty, singer.count != sizes.singerWidth {
      return "a singer's vector of \(singer.count), not \(sizes.singerWidth)"
    }
    if sizes.kinds.contains(.f0), f0.count % sizes.width(.f0) != 0 || !f0.allSatisfy(\.isFinite) {
      return "a pitch that is no numbers per frame"
    }
    if !singer.allSatisfy(\.isFinite) { return "a singer's vector that is no numbers" }
    return nil
  }
}
