import FlowCore
import FlowTestSupport
import Foundation
import Testing

private let hasRclone = ["/usr/bin/rclone", "/usr/local/bin/rclone"].contains {
  FileManager.default.isExecutableFile(atPath: $0)
}

/// Remote caches in a folder; `scripts/remote-check` does the same through S3, WebDAV and SFTP.
@Suite(.enabled(if: hasRclone, "rclone is missing: sudo apt-get install rclone"))
struct RemoteTests {
  let here: Shell
  let there: Shell
  let remote: TemporaryFolder

  init() throws {
    (here, there, remote) = (try Shell(), try Shell(), try TemporaryFolder())
    #expect(try here("run", "--quiet").code == 0)
    #expect(try here("cache", "remote", remote.path).code == 0)
    try there.folder.write("flow.yaml", here.folder.text("flow.yaml"))
  }

  /// The files of the remote whose paths hold `part`, sorted.
  private func files(_ part: String) -> [String] {
    (FileManager.default.enumerator(atPath: remote.path)?.compactMap { $0 as? String } ?? [])
      .filter { $0.contains(part) && ($0 as NSString).lastPathComponent.count >= 64 }.sorted()
  }

  private func push(_ shell: Shell, _ more: String...) throws -> JSON {
    let result = try shell.run(["cache", "push", "--json"] + more)
    #expect(result.code == 0, "\(result.error)")
    return try JSON(parsing: result.out.utf8)
  }

  @Test func afterAPullEverythingIsCached() throws {
    let sent = try push(here)
    #expect(sent["records"] == 6 && sent["open"] == [])
    #expect(.int(files("objects/").count) == sent["objects"] && files("actions/").count == 6)
    #expect(files("tmp/").isEmpty)
    let again = try push(here)
    #expect(again["objects"] == 0 && again["records"] == 0)

    let pulled = try there("cache", "pull")
    #expect(pulled.code == 0 && pulled.out.contains("and 6 records"))
    let run = try there("run", "--json")
    #expect(!run.out.contains("\"done\""), "\(run.out)")
    #expect(there.folder.text("pipelines/p.lock.yaml") == here.folder.text("pipelines/p.lock.yaml"))
    #expect(there.folder.read("runs/p/f0/mary/f0.png") == here.folder.read("runs/p/f0/mary/f0.png"))
    #expect(try there("cache", "pull").out.hasPrefix("fetched 0 objects and 0 records"))
    #expect(try there("cache", "verify").out.contains("0 damaged"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: there.folder.path + "/cache/tmp").isEmpty)
  }

  @Test func whatDoesNotHoldItsDigestIsRefusedNamedAndMadeAgain() throws {
    _ = try push(here)
    // One object is torn, one is another's, a record is damaged, and one is another action's.
    let (objects, records) = (files("objects/"), files("actions/"))
    // The objects are of records that stay whole: those of others are not asked for.
    let whole = records.dropFirst(2).map { String(decoding: remote.read($0) ?? Data(), as: UTF8.self) }
    let wanted = objects.filter { name in
      let digest = (name as NSString).lastPathComponent.prefix(64)
      return whole.contains { $0.contains(digest) }
    }
    try #require(wanted.count > 2)
    let largest = wanted.max { (remote.read($0)?.count ?? 0) < (remote.read($1)?.count ?? 0) } ?? ""
    let others = wanted.filter { $0 != largest }
    for name in objects + records { chmod(remote.path + "/" + name, 0o644) }
    try remote.write(largest, (remote.read(largest) ?? Data()).prefix(1000))
    try remote.write(others[0], remote.read(others[1]) ?? Data())
    try remote.write(records[0], Data("not a record".utf8))
    try remote.write(records[1], remote.read(records[2]) ?? Data())
    let pulled = try there("cache", "pull", "--all")
    #expect(pulled.code == 1)
    for (name, kind) in [
      (largest, "object"), (others[0], "object"), (records[0], "record"), (records[1], "record"),
    ] {
      let digest = (name as NSString).lastPathComponent.prefix(64)
      #expect(pulled.error.contains("refused: \(kind) \(digest.prefix(12))"), "\(name): \(pulled.error)")
    }
    #expect(try there("cache", "verify").out.contains("0 damaged"))
    #expect(try there("run", "--quiet").code == 0)
    #expect(there.folder.text("pipelines/p.lock.yaml") == here.folder.text("pipelines/p.lock.yaml"))
    // A push mends what is torn there.
    _ = try push(there)
    let fresh = try Shell()("cache", "pull", "--all", "--remote", remote.path)
    #expect(!fresh.error.contains("refused: object"), "\(fresh.error)")
    #expect(fresh.error.components(separatedBy: "refused: record").count == 3)
  }

  @Test func aChangedParameterTakesOnlyWhatIsKnown() throws {
    _ = try push(here)
    let pulled = try there("cache", "pull", "--set", "stages.sing.with.vibrato=20", "--json")
    let tally = try JSON(parsing: pulled.out.utf8)
    #expect(tally["records"] == 2, "only the stage before it is the same")
    #expect(tally["open"] == ["sing", "f0"])
  }

  @Test func mistakesSayWhatToDo() throws {
    let unset = try Shell()("cache", "push")
    #expect(unset.code == 2 && unset.error.contains("flow cache remote"))
    let empty = try there("cache", "pull")
    #expect(empty.code == 1 && empty.error.contains("error[E048]"))
    let unknown = try here("cache", "push", "--remote", "nowhere:x")
    #expect(unknown.code == 1 && unknown.error.contains("error[E047]") && unknown.error.contains("nowhere"))
    #expect(try here("cache", "push", "--remote", "--config=x").code != 0)
    try here.folder.write("flow.yaml", "flow: 1\ncache:\n  remot: x\n")
    let typo = try here("cache", "push")
    #expect(
      typo.code == 2 && typo.error.contains("flow.yaml:3:3") && typo.error.contains("did you mean 'remote'?"))
  }
}
