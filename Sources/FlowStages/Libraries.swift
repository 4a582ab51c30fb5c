import FlowAudio
import FlowScore
import FlowTensorCPU
import Foundation

/// What `flow doctor` says about the libraries that stages use.
public enum Libraries {
  /// One fact about the machine.
  public struct Check: Sendable {
    /// What was looked at.
    public let name: String
    /// Whether it is as it must be.
    public let ok: Bool
    /// What was found.
    public let detail: String
    /// The command that mends it.
    public let help: String?
    /// A fact.
    public init(name: String, ok: Bool, detail: String, help: String?) {
      self.name = name
      self.ok = ok
      self.detail = detail
      self.help = help
    }
  }

  private static var fluidsynth: Check {
    do {
      return Check(name: "fluidsynth", ok: true, detail: try Renderer.libraryVersion(), help: nil)
    } catch {
      return Check(
        name: "fluidsynth", ok: false, detail: "\(error)", help: "sudo apt-get install libfluidsynth-dev")
    }
  }

  /// Versions as the loaded libraries give them, and the soundfont.
  public static func checks() -> [Check] {
    var checks = [
      Check(name: "libsndfile", ok: true, detail: AudioLibraries.sndfile, help: nil),
      Check(name: "samplerate", ok: true, detail: AudioLibraries.samplerate, help: nil),
      fluidsynth,
      Check(
        name: "openblas", ok: CPUBackend.library != nil,
        detail: CPUBackend.library ?? "missing: training would be slow",
        help: "sudo apt-get install libopenblas-dev"),
    ]
    let soundfont = Renderer.soundfonts.first { FileManager.default.isReadableFile(atPath: $0) }
    checks.append(
      Check(
        name: "soundfont", ok: soundfont != nil,
        detail: soundfont ?? "none of \(Renderer.soundfonts.joined(separator: ", "))",
        help: "sudo apt-get install fluidr3mono-gm-soundfont"))
    return checks + Devices.checks()
  }
}
