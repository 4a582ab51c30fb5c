import FlowAudio
import FlowCore
import FlowStageKit
import Foundation

/// Names of files in items, and how stages read and write them.
enum Files {
  static let audio = "audio.wav", vocals = "vocals.wav", accompaniment = "accompaniment.wav", f0 = "f0.json"
}

/// A pitch track as stages exchange it.
struct PitchFile: Codable {
  /// Seconds between frames; frame i is at i · step.
  var step: Double
  /// Hz; 0 where unvoiced.
  var f0: [Double]
}

extension InputItem {
  /// The audio in the file `name`, or in the first audio file.
  /// - Throws: `ItemRejected` with the file's fault.
  func audio(_ name: String? = nil) throws -> AudioBuffer {
    let path =
      try name.map { try self.path($0) } ?? self.path(extensions: ArtifactType.audio.sourceExtensions)
    do { return try AudioFile.read(path) } catch {
      throw ItemRejected((item.id.isEmpty ? "" : "'\(item.id)': ") + error.description)
    }
  }

  /// The JSON document in the file `name`.
  /// - Throws: `StageFailure` when it isn't one of that type.
  func json<T: Decodable>(_ name: String, _ type: T.Type) throws -> T {
    let data = try Data(contentsOf: URL(fileURLWithPath: try path(name)))
    do { return try JSONDecoder().decode(type, from: data) } catch {
      throw StageFailure("'\(name)' is not what this stage reads: \(error)")
    }
  }
}

extension StageContext {
  /// Writes `audio` as a file to be emitted.
  /// - Throws: `StageFailure` when it can't be written.
  func file(_ audio: AudioBuffer, _ name: String, format: AudioFile.Format = .wavFloat32) throws
    -> FileContent
  {
    let path = scratch(name)
    do { try AudioFile.write(audio, to: path, format: format) } catch { throw StageFailure("\(error)") }
    return .file(path)
  }

  /// `value` as the canonical JSON of a file to be emitted.
  /// - Throws: `EncodingError`.
  func file(_ value: some Encodable) throws -> FileContent { .text(try JSON(encoding: value).canonical) }
}
