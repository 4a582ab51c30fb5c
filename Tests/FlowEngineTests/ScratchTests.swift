import FlowTestSupport
import Foundation
import Testing

@testable import FlowEngine

@Suite struct ScratchTests {
  private func write(_ path: String) throws {
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data("x".utf8).write(to: URL(fileURLWithPath: path))
  }

  @Test func twoAreNeverTheSame() throws {
    let root = try TemporaryFolder()
    let (a, b) = (try Scratch.take(in: root.path + "/s"), try Scratch.take(in: root.path + "/s"))
    #expect(a.path != b.path)
    withExtendedLifetime(a) {}
  }

  @Test func whatAnActionLeftIsGoneForTheNext() throws {
    let root = try TemporaryFolder()
    let scratch = try Scratch.take(in: root.path + "/s")
    try scratch.makeFolders("in", ["audio", "score"])
    try scratch.makeFolders("out", ["audio"])
    for name in ["in/audio/a.wav", "out/audio/deep/b.wav", "metrics.json", ".hidden/c", "out/stray"] {
      try write("\(scratch.path)/\(name)")
    }
    try FileManager.default.createSymbolicLink(
      atPath: scratch.path + "/out/audio/link", withDestinationPath: root.path)
    scratch.empty()
    try scratch.makeFolders("in", ["audio"])
    try scratch.makeFolders("out", ["other"])
    let left = FileManager.default.enumerator(atPath: scratch.path)?.compactMap { $0 as? String }.sorted()
    #expect(left == ["in", "in/audio", "out", "out/other"])
    #expect(FileManager.default.fileExists(atPath: root.path), "a link's target is not touched")
  }

  @Test func oneThatAKilledProcessLeftIsNotReused() throws {
    let root = try TemporaryFolder()
    let old: String
    do {
      let scratch = try Scratch.take(in: root.path + "/s")
      old = scratch.path
      try write(old + "/out/audio/half.wav")
    }
    let survivor = open(old + "/out/audio", O_RDONLY | O_DIRECTORY)
    defer { close(survivor) }
    let scratch = try Scratch.take(in: root.path + "/s")
    #expect(scratch.path == old)
    try scratch.makeFolders("out", ["audio"])
    // A child that outlived its worker still works in the folder it knew.
    let late = openat(survivor, "late.wav", O_WRONLY | O_CREAT, 0o644)
    if late >= 0 { close(late) }
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path + "/out/audio").isEmpty)
  }

  @Test func sweepingSparesWhatIsTaken() throws {
    let root = try TemporaryFolder()
    let taken = try Scratch.take(in: root.path + "/s")
    try write(taken.path + "/in/a/file")
    let left: String
    do {
      let other = try Scratch.take(in: root.path + "/s")
      left = other.path
      try write(left + "/in/a/file")
    }
    Scratch.sweep(root.path + "/s")
    #expect(FileManager.default.fileExists(atPath: taken.path + "/in/a/file"))
    #expect(!FileManager.default.fileExists(atPath: left + "/in/a/file"))
  }
}
