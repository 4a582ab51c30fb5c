/// Samples in memory: one array per channel, ±1 full scale.
public struct AudioBuffer: Sendable, Hashable {
  /// The samples of each channel, all of one length.
  public var channels: [[Float]]
  /// Hz.
  public var sampleRate: Int

  /// Channels of one length.
  public init(channels: [[Float]], sampleRate: Int) {
    precondition(channels.allSatisfy { $0.count == channels[0].count }, "channels of different lengths")
    self.channels = channels
    self.sampleRate = sampleRate
  }

  /// One channel.
  public init(_ samples: [Float], sampleRate: Int) { self.init(channels: [samples], sampleRate: sampleRate) }

  /// Samples per channel.
  public var count: Int { channels.first?.count ?? 0 }
  /// Seconds.
  public var duration: Double { Double(count) / Double(sampleRate) }

  /// The mean of the channels.
  public var mono: [Float] {
    guard channels.count > 1 else { return channels.first ?? [] }
    let scale = 1 / Float(channels.count)
    var sum = channels[0]
    for channel in channels.dropFirst() { for i in sum.indices { sum[i] += channel[i] } }
    return sum.map { $0 * scale }
  }

  /// The largest magnitude.
  public var peak: Float { channels.reduce(0) { top, channel in channel.reduce(top) { max($0, abs($1)) } } }

  /// The root mean square over all channels.
  public var rms: Double {
    let sum = channels.reduce(0.0) { total, channel in channel.reduce(total) { $0 + Double($1) * Double($1) }
    }
    return (sum / Double(max(1, count * channels.count))).squareRoot()
  }
}

/// Why a file can't be used.
public enum AudioFileError: Error, Sendable, Hashable, CustomStringConvertible {
  case unreadable(String)
  case empty
  case notFinite(index: Int)
  case truncated(expected: Int, found: Int)
  case tooLong(seconds: Double)
  case unwritable(String)

  /// The message, for a reader.
  public var description: String {
    switch self {
    case .unreadable(let why): "can't be read as audio: \(why)"
    case .empty: "holds no samples"
    case .notFinite(let index): "sample \(index) is not a finite number"
    case .truncated(let expected, let found):
      "is truncated: its header promises \(expected) samples, \(found) are there"
    case .tooLong(let seconds): "is \(Int(seconds)) s long, over the limit of 4 hours"
    case .unwritable(let why): "can't be written: \(why)"
    }
  }
}
