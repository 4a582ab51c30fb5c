import FlowAudio
import FlowCore
import FlowStore
import Foundation

/// What 'flow sample' writes and says.
enum SongWriter {
  /// Writes the song as 16-bit WAV; the file is there whole or not at all.
  static func write(_ song: AudioBuffer, to path: String, isStereo: Bool) throws -> AudioBuffer {
    var audio = song
    if isStereo {
      let left = song.mono
      // Spec 5.8: 10 ms later, 0.8 of the level.
      let delay = song.sampleRate / 100
      let right = left.indices.map { $0 < delay ? 0 : 0.8 * left[$0 - delay] }
      audio = AudioBuffer(channels: [left, right], sampleRate: song.sampleRate)
    }
    do throws(AudioFileError) { try AudioFile.write(audio, to: path, format: .wavPCM16) } catch {
      throw StoreError.unwritable(path: path, reason: "\(error)")
    }
    return audio
  }

  static func report(
    _ audio: AudioBuffer?, at path: String?, latents: String?, frames: Int, asked: Int, json: Bool
  ) {
    if json {
      return Terminal.out(
        JSON.object([
          "schema": "flow.sample/1", "output": path.map(JSON.string) ?? .null,
          "latents": latents.map(JSON.string) ?? .null, "frames": .int(frames),
          "ended": .bool(frames < asked), "seconds": audio.map { .double($0.duration) } ?? .null,
          "peak": audio.map { .double(Double($0.peak)) } ?? .null,
        ]).pretty)
    }
    let end = frames < asked ? ", ended by the model" : ""
    if let audio, let path {
      let seconds = String(format: "%.1f s, peak %.3f", audio.duration, audio.peak)
      Terminal.out("\(path): \(seconds), \(frames) latent frames\(end)")
    }
    if let latents { Terminal.out("\(latents): \(frames) latent frames\(end)") }
    if let audio, audio.peak < 1e-4 { Terminal.error("warning: the song is silent") }
  }
}

/// Says how far the sampling is, on standard error: a line redrawn on a terminal, a line every ten seconds elsewhere.
final class SongProgress {
  private let terminal = Terminal()
  private let quiet: Bool
  private let begin = Date()
  private var said = Date()

  init(quiet: Bool) { self.quiet = quiet }

  func block(_ block: Int, of blocks: Int) {
    let now = Date()
    guard !quiet, block > 0, now.timeIntervalSince(said) > (terminal.isLive ? 0.1 : 10) else { return }
    said = now
    let left = now.timeIntervalSince(begin) / Double(block) * Double(blocks - block)
    let text = "block \(block) of \(blocks), at most \(Terminal.duration(left)) left"
    Terminal.write(terminal.isLive ? "\r\u{1B}[K\(text)" : text + "\n", to: 2)
  }

  /// Takes the line away.
  func end() { if terminal.isLive, !quiet { Terminal.write("\r\u{1B}[K", to: 2) } }
}
