import CSampleRate

extension AudioBuffer {
  /// Resampled to `rate` by libsamplerate's best sinc interpolator; the length is ceil(count · rate / sampleRate).
  /// - Throws: `AudioFileError.unreadable` when the library refuses the ratio.
  public func resampled(to rate: Int) throws(AudioFileError) -> AudioBuffer {
    if rate == sampleRate { return self }
    let ratio = Double(rate) / Double(sampleRate)
    let length = (count * rate + sampleRate - 1) / sampleRate
    var result: [[Float]] = []
    for channel in channels { result.append(try Resampler.convert(channel, ratio: ratio, count: length)) }
    return AudioBuffer(channels: result, sampleRate: rate)
  }
}

/// Sample-rate conversion by any ratio.
public enum Resampler {
  /// `samples` at `ratio` times the rate, exactly `count` of them (zeros follow if the converter gives fewer).
  /// - Throws: `AudioFileError.unreadable` when the library refuses the ratio.
  public static func convert(_ samples: [Float], ratio: Double, count: Int) throws(AudioFileError) -> [Float]
  {
    // A tail of zeros lets the filter run out.
    let input = samples + [Float](repeating: 0, count: 1024 + Int(512 / min(1, ratio)))
    var output = [Float](repeating: 0, count: count + 4096)
    var status: Int32 = 0
    input.withUnsafeBufferPointer { from in
      output.withUnsafeMutableBufferPointer { to in
        var data = SRC_DATA()
        data.data_in = from.baseAddress
        data.data_out = to.baseAddress
        data.input_frames = from.count
        data.output_frames = to.count
        data.src_ratio = ratio
        status = src_simple(&data, Int32(SRC_SINC_BEST_QUALITY), 1)
      }
    }
    guard status == 0 else { throw .unreadable(String(cString: src_strerror(status))) }
    return Array(output[..<count])
  }
}

extension AudioLibraries {
  /// libsamplerate's name and version.
  public static var samplerate: String { String(cString: src_get_version()) }
}
