import CSndFile
import Foundation

/// Audio files, by libsndfile.
public enum AudioFile {
  /// How samples are written.
  public enum Format: Sendable {
    case wavFloat32, wavPCM16, flac24

    var code: Int32 {
      switch self {
      case .wavFloat32: Int32(SF_FORMAT_WAV | SF_FORMAT_FLOAT)
      case .wavPCM16: Int32(SF_FORMAT_WAV | SF_FORMAT_PCM_16)
      case .flac24: Int32(SF_FORMAT_FLAC | SF_FORMAT_PCM_24)
      }
    }
  }

  /// Reads the file at `path`: WAV, FLAC, OGG, AIFF and what else libsndfile knows.
  /// - Throws: `AudioFileError`, with a reason that can be shown to the file's owner.
  public static func read(_ path: String) throws(AudioFileError) -> AudioBuffer {
    var info = SF_INFO()
    guard let file = sf_open(path, Int32(SFM_READ), &info) else {
      throw .unreadable(String(cString: sf_strerror(nil)))
    }
    defer { sf_close(file) }
    guard info.channels > 0, info.channels <= 64, info.samplerate > 0, info.samplerate <= 768_000 else {
      throw .unreadable("\(info.channels) channels at \(info.samplerate) Hz")
    }
    let frames = Int(info.frames)
    guard frames > 0 else { throw .empty }
    let seconds = Double(frames) / Double(info.samplerate)
    guard seconds <= 4 * 3600 else { throw .tooLong(seconds: seconds) }
    let count = Int(info.channels)
    var samples: [Float] = []
    let block = 1 << 16
    var buffer = [Float](repeating: 0, count: block * count)
    while true {
      let got = Int(sf_readf_float(file, &buffer, sf_count_t(block)))
      if got <= 0 { break }
      samples += buffer[..<(got * count)]
    }
    guard samples.count == frames * count else {
      throw .truncated(expected: frames, found: samples.count / count)
    }
    if let bad = samples.firstIndex(where: { !$0.isFinite }) { throw .notFinite(index: bad / count) }
    var channels = [[Float]](repeating: [Float](repeating: 0, count: frames), count: count)
    for c in 0..<count { for i in 0..<frames { channels[c][i] = samples[i * count + c] } }
    return AudioBuffer(channels: channels, sampleRate: Int(info.samplerate))
  }

  /// Writes `audio` to `path`, through a temporary file beside it. The same samples give the same bytes (no time stamp).
  /// - Throws: `AudioFileError.unwritable`.
  public static func write(_ audio: AudioBuffer, to path: String, format: Format = .wavFloat32)
    throws(AudioFileError)
  {
    let temporary = path + ".part"
    var info = SF_INFO()
    info.channels = Int32(audio.channels.count)
    info.samplerate = Int32(audio.sampleRate)
    info.format = format.code
    guard let file = sf_open(temporary, Int32(SFM_WRITE), &info) else {
      throw .unwritable(String(cString: sf_strerror(nil)))
    }
    // The PEAK chunk of float files holds the time of writing.
    sf_command(file, Int32(SFC_SET_ADD_PEAK_CHUNK), nil, Int32(SF_FALSE))
    sf_command(file, Int32(SFC_SET_CLIPPING), nil, Int32(SF_TRUE))
    let count = audio.channels.count
    var samples = [Float](repeating: 0, count: audio.count * count)
    for c in 0..<count { for i in 0..<audio.count { samples[i * count + c] = audio.channels[c][i] } }
    let written = Int(sf_writef_float(file, samples, sf_count_t(audio.count)))
    let closed = sf_close(file)
    guard written == audio.count, closed == 0, rename(temporary, path) == 0 else {
      unlink(temporary)
      throw .unwritable("\(written) of \(audio.count) samples written to \(path)")
    }
  }
}

/// The libraries that are loaded.
public enum AudioLibraries {
  /// libsndfile's name and version.
  public static var sndfile: String { String(cString: sf_version_string()) }
}
