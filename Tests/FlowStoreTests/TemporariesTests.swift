import FlowTestSupport
import Foundation
import Testing

@testable import FlowStore

@Suite struct TemporariesTests {
  @Test func onlyWhatEndedProcessesLeftIsRemoved() throws {
    let folder = try TemporaryFolder()
    let parts = Temporaries.name().split(separator: "-").map { String($0) }
    let own = parts.joined(separator: "-")
    // The same number, given to another process since.
    let reused = "\(parts[0])-\(parts[1])-1-5"
    let ended = "\(parts[0])-999999999-\(parts[2])-5"
    let elsewhere = "00000000-\(parts[1])-1-5"
    let old = "00000000-\(parts[1])-1-6"
    for name in [own, reused, ended, elsewhere, old, "notes-of-mine", "x"] { try folder.write(name, "x") }
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSinceNow: -100_000)], ofItemAtPath: folder.path + "/" + old)
    Temporaries.sweep(folder.path)
    let left = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    #expect(left == [own, elsewhere, "notes-of-mine", "x"].sorted())
  }

  @Test func aZombieHasEnded() throws {
    let folder = try TemporaryFolder()
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "sleep 0 & echo $!; exec sleep 3 >&-"]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let child = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      .trimmingCharacters(in: .whitespacesAndNewlines)
    let place = Temporaries.name().split(separator: "-")[0]
    let stat = try String(contentsOfFile: "/proc/\(child)/stat", encoding: .utf8)
    let birth = stat[stat.index(after: try #require(stat.lastIndex(of: ")")))...].split(separator: " ")[19]
    try folder.write("\(place)-\(child)-\(birth)-1", "x")
    // The child ends at once; nobody has asked for its status yet.
    var isZombie = false
    for _ in 0..<200 where !isZombie {
      usleep(10_000)
      isZombie =
        (try? String(contentsOfFile: "/proc/\(child)/stat", encoding: .utf8))?.contains(") Z ") ?? false
    }
    #expect(isZombie)
    Temporaries.sweep(folder.path)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    process.terminate()
  }
}
